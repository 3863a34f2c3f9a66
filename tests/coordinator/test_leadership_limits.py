"""Whoever can write to the seat can use up the epochs: then nobody acts, and the log says why."""

from coordinator import leadership
from coordinator.leadership import Asking, Rules
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import EPOCH_MAX, Claim, Seat

RULES = Rules(token="ann", run="r", where="here")


def asked_with_offer(epoch: int) -> tuple[leadership.State, list[leadership.Effect]]:
    state, _ = leadership.step(leadership.begin(), leadership.Connected(0.0), RULES)
    state, _ = leadership.step(state, leadership.OfferSeen(0.1, epoch), RULES)
    return leadership.step(state, leadership.ClaimSeen(0.2, Claim(token="ann")), RULES)


def test_where_no_epoch_is_left_nothing_unreadable_is_said_but_what_to_do() -> None:
    state, effects = asked_with_offer(EPOCH_MAX)
    (note,) = [effect for effect in effects if isinstance(effect, Note)]
    assert note.what == leadership.NO_EPOCH and str(EPOCH_MAX) in note.about
    assert not any(isinstance(effect, Publish) for effect in effects)
    # It asks again later: somebody may answer.
    assert isinstance(state.phase, Asking)
    assert WakeAt(0.2 + RULES.ask_every_s) in effects


def test_the_last_generation_can_be_bid_for() -> None:
    known = EPOCH_MAX - 2 * leadership.EPOCHS_PER_GENERATION
    _, effects = asked_with_offer(known)
    (bid,) = [effect.message for effect in effects if isinstance(effect, Publish)]
    assert isinstance(bid, Seat) and known < bid.epoch <= EPOCH_MAX

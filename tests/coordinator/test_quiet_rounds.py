"""Rounds of a quiet federation: nobody is known of but by its answers."""

import math
from dataclasses import replace

from msgspec import structs

from coordinator import fleet_size, rounds
from coordinator.known import Report
from coordinator.persistence import recovery
from coordinator.persistence.ledger import OpenRound, Refusals
from coordinator.roster import Roster
from coordinator.rounds import Averaging, Close, Collecting, Lead, Named, Rules, State, Waiting
from fedmqtt import sortition
from fedmqtt.effects import Publish
from fedmqtt.messages import EVERYBODY, ModelRef, Offer, Presence, Purpose, Receipt
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId
from fleet_sim import quiet_fleet
from fleet_sim.disk import first_carried

MODEL = ModelRef(digest=Digest("m0"), size_bytes=8, chunk_bytes=8, fingerprint="f")
RULES = replace(
    quiet_fleet.rules(declared=100_000, cohort=3, count=2, deadline_s=60.0),
    quorum=2,
    evaluate_every=1,
    evaluators=2,
)
CLIENTS = [ClientId(f"device-{number}") for number in range(100_000)]


def _opened(rules: Rules = RULES) -> tuple[Collecting, Offer, Roster]:
    roster = Roster(rules.task, by_sortition=True)
    state, effects = rounds.step(rounds.begin(rules), rounds.ModelReady(0.0, MODEL), rules, roster)
    assert isinstance(state, Collecting)
    (offer,) = [one.message for one in effects if isinstance(one, Publish)]
    assert isinstance(offer, Offer)
    return state, offer, roster


def _drawn(state: Collecting, count: int, purpose: Purpose = "train") -> list[ClientId]:
    drawn = state.sortition
    assert drawn is not None
    below = drawn.train if purpose == "train" else drawn.evaluate
    draws = sortition.draws(drawn.salt, state.round, purpose, CLIENTS)
    return [client for client, its in zip(CLIENTS, draws, strict=True) if its < below][:count]


def _answer(at: float, client: ClientId, number: int = 1) -> rounds.UpdateCame:
    return rounds.UpdateCame(at, client, RULES.run, RoundId(number), "m0", "f")


def _after(
    state: State, roster: Roster, *events: rounds.Event, rules: Rules = RULES
) -> tuple[State, list[rounds.Effect]]:
    all_effects: list[rounds.Effect] = []
    for event in events:
        state, effects = rounds.step(state, event, rules, roster)
        all_effects += effects
    return state, all_effects


def _stored(at: float, *clients: ClientId) -> rounds.Stored:
    return rounds.Stored(at, tuple(Named(client, RoundId(1)) for client in clients))


def test_a_round_opens_though_nobody_has_been_heard_of_and_tells_clients_that_it_is_so() -> None:
    state, offer, roster = _opened()
    assert not roster.clients and not state.train and not state.is_last_evaluation
    assert offer.sortition is not None and offer.sortition.quiet
    assert not offer.train and 0 < offer.sortition.train < 2**56
    assert offer.spread_s == 500.0, "a hundred thousand come back at 200 in a second"
    assert 0 < offer.sortition.begin_s <= 30.0


def test_nobody_is_told_of_a_round_again_since_nobody_knows_who_is_missing() -> None:
    rules = replace(RULES, remind_s=5.0, returns_per_s=math.inf)
    state, _, roster = _opened(rules)
    (ann,) = _drawn(state, 1)
    here = Presence(online=True, session="1", task=rules.task, purposes=("train",), draws=True)
    came = rounds.ClientCame(1.0, ann, here)
    following, effects = _after(state, roster, came, rounds.Woke(12.0), rules=rules)
    assert isinstance(following, Collecting) and ann in following.train
    assert not any(isinstance(one, rounds.Remind) for one in effects)


def test_it_closes_when_a_cohort_has_answered_whoever_else_was_drawn() -> None:
    state, _, roster = _opened()
    ann, bob, cat = _drawn(state, 3)
    following, effects = _after(
        state, roster, _answer(1.0, ann), _answer(2.0, bob), _stored(3.0, ann, bob)
    )
    assert isinstance(following, Collecting), "somebody else may yet come"
    assert [one.to for one in effects if isinstance(one, Publish)] == [Inbox(ann), Inbox(bob)]
    following, effects = _after(following, roster, _answer(4.0, cat), _stored(5.0, cat))
    (close,) = [one for one in effects if isinstance(one, Close)]
    assert isinstance(following, Averaging) and close.reason == rounds.COMPLETE
    assert close.answered == {ann, bob, cat}
    assert not close.learned and not roster.knowledge.clients and not roster.knowledge.reports
    before = fleet_size.estimate(state.past.sizes)
    assert fleet_size.estimate(close.sizes).low > before.low


def test_at_the_deadline_a_quorum_makes_a_model_and_the_next_round_draws_more() -> None:
    state, offer, roster = _opened()
    ann, bob = _drawn(state, 2)
    following, effects = _after(
        state,
        roster,
        _answer(1.0, ann),
        _answer(2.0, bob),
        _stored(3.0, ann, bob),
        rounds.Woke(60.0),
        rounds.ModelReady(61.0, _model("m1")),
    )
    (close,) = [one for one in effects if isinstance(one, Close)]
    assert (close.outcome, close.reason) == ("averaged", rounds.DEADLINE)
    assert isinstance(following, Collecting) and following.sortition is not None
    assert offer.sortition is not None
    assert following.sortition.train > offer.sortition.train


def test_who_is_refused_or_declines_is_told_of_and_who_was_refused_would_have_answered() -> None:
    state, _, roster = _opened()
    ann, bob, cat = _drawn(state, 3)
    drawn = {*_drawn(state, 100_000), *_drawn(state, 100_000, "evaluate")}
    other = next(one for one in CLIENTS if one not in drawn)
    bad = replace(_answer(1.0, ann), fault="has values that are not finite")
    following, _ = _after(
        state,
        roster,
        bad,
        rounds.Declined(2.0, bob, RULES.run, RoundId(1), "another task"),
        _answer(3.0, other),
        rounds.Declined(3.0, other, RULES.run, RoundId(1), "never asked"),
    )
    assert isinstance(following, Collecting)
    assert following.rejected == {ann: "has values that are not finite"}
    assert following.declined == {bob: "another task"}
    # One better answer, one more that is no good: the sizes go by both.
    worse = replace(bad, client=cat)
    _, effects = _after(
        following, roster, _answer(4.0, ann), _stored(5.0, ann), worse, rounds.Woke(60.0)
    )
    (close,) = [one for one in effects if isinstance(one, Close)]
    assert close.answered == {ann} and close.rejected.keys() == {cat}
    _, alone = _after(_opened()[0], roster, _answer(4.0, ann), _stored(5.0, ann), rounds.Woke(60.0))
    (fewer,) = [one for one in alone if isinstance(one, Close)]
    assert fleet_size.estimate(close.sizes).size > fleet_size.estimate(fewer.sizes).size


def test_of_those_that_are_refused_no_more_are_told_of_than_there_is_room_for() -> None:
    state, _, roster = _opened()
    room = state.train_max + state.evaluate_max
    every = structs.replace(state.sortition, train=EVERYBODY) if state.sortition else None
    bad = (replace(_answer(1.0, one), fault="no good") for one in CLIENTS[: 2 * room])
    following, _ = _after(replace(state, sortition=every), roster, *bad)
    assert isinstance(following, Collecting) and len(following.rejected) == room


def test_who_was_not_drawn_is_refused_and_an_answer_counts_once() -> None:
    state, _, roster = _opened()
    (ann,) = _drawn(state, 1)
    stranger = next(one for one in CLIENTS if one not in set(_drawn(state, len(CLIENTS))))
    _, effects = _after(state, roster, _answer(1.0, stranger))
    refused = [one.message for one in effects if isinstance(one, Publish)]
    assert [type(one) for one in refused] == [Receipt]
    assert "not invited to train" in getattr(refused[0], "reason", "")
    following, _ = _after(state, roster, _answer(1.0, ann), _stored(1.0, ann))
    again, effects = _after(following, roster, _answer(2.0, ann))
    assert isinstance(again, Collecting) and again.answered == {ann}
    (receipt,) = [one.message for one in effects if isinstance(one, Publish)]
    assert isinstance(receipt, Receipt) and receipt.accepted


def test_when_far_too_many_come_at_once_there_is_room_for_so_many_and_no_more() -> None:
    state, _, roster = _opened()
    assert state.sortition is not None and state.terms_max == rounds.places(RULES) == 12
    state = replace(state, sortition=structs.replace(state.sortition, train=EVERYBODY))
    # Before any of them is stored, and the round with it.
    answers = [_answer(1.0, client) for client in CLIENTS[:13]]
    following, effects = _after(state, roster, *answers)
    assert isinstance(following, Collecting) and following.answered == {*CLIENTS[:12]}
    assert [one.to for one in effects if isinstance(one, Publish)] == [Inbox(CLIENTS[12])]
    assert rounds.Shut(RoundId(1), following.train) in effects


def test_the_last_evaluation_asks_about_as_many_as_are_wanted_and_ends_with_them() -> None:
    rules = replace(RULES, rounds=1)
    past = replace(rounds.begin(rules).past)
    waiting = Waiting(RoundId(2), past, MODEL)
    roster = Roster(rules.task, by_sortition=True)
    state, effects = rounds.step(waiting, rounds.Woke(1.0), rules, roster)
    assert isinstance(state, Collecting) and state.is_last_evaluation
    assert any(isinstance(one, Publish) and one.to == OfferBoard() for one in effects)
    ann, bob = _drawn(state, 2, "evaluate")
    events = [
        rounds.EvaluationCame(2.0, client, rules.run, RoundId(2), "m0") for client in (ann, bob)
    ]
    stored = rounds.Stored(3.0, (Named(ann, RoundId(2)), Named(bob, RoundId(2))))
    following, _ = _after(state, roster, *events, stored, rules=rules)
    assert isinstance(following, rounds.Finished)


def test_a_coordinator_that_was_killed_goes_on_with_the_same_draw_and_room() -> None:
    state, _, roster = _opened()
    (ann,) = _drawn(state, 1)
    following, _ = _after(state, roster, _answer(1.0, ann), _stored(1.0, ann))
    assert isinstance(following, Collecting)
    opening = recovery.opening(state)
    assert opening.is_for_training
    carried = first_carried(RULES)
    back = recovery.state(
        100.0,
        RULES,
        carried,
        (),
        OpenRound(
            number=RoundId(1),
            opening=opening,
            refusals=Refusals(declined={}, rejected={}),
            closes_in_s=50.0,
        ),
        (Named(ann, RoundId(1)),),
        {(ann, RoundId(1)): Report(1)},
    )
    assert isinstance(back, Collecting)
    assert back.sortition == state.sortition and back.train == back.answered == {ann}
    assert (back.train_max, back.evaluate_max) == (state.train_max, state.evaluate_max)
    assert back.past.sizes == state.past.sizes


def _model(digest: str) -> ModelRef:
    return ModelRef(digest=Digest(digest), size_bytes=8, chunk_bytes=8, fingerprint="f")


def _led(closes_by: float, answered: int, typical_s: float = 0.0) -> Close:
    """A quiet site's round of that many answers, opened at 0 and ended by its centre's time."""
    rules = replace(RULES, is_led=True, evaluate_every=0)
    roster = Roster(rules.task, by_sortition=True)
    begun = rounds.begin(rules)
    begun = replace(begun, past=replace(begun.past, typical_s=typical_s))
    lead = rounds.LeadCame(0.0, MODEL, Lead(round=RoundId(1), closes_by=closes_by))
    state, _ = _after(begun, roster, rounds.ModelReady(0.0, MODEL), lead, rules=rules)
    assert isinstance(state, Collecting) and state.closes_at == min(closes_by, 60.0)
    clients = _drawn(state, answered)
    assert len(clients) == answered
    came = [_answer(1.0, client) for client in clients]
    events: tuple[rounds.Event, ...] = (*came, _stored(2.0, *clients), rounds.Woke(state.closes_at))
    _, effects = _after(state, roster, *events, rules=rules)
    (close,) = [one for one in effects if isinstance(one, Close)]
    assert close.reason == rounds.DEADLINE
    return close


def test_a_round_that_its_centre_cut_short_does_not_make_a_quiet_site_look_small() -> None:
    before = fleet_size.estimate(fleet_size.begin(RULES.fleet))
    for answered in (0, 1, 2):
        hurried = fleet_size.estimate(_led(9.0, answered).sizes)
        in_time = fleet_size.estimate(_led(55.0, answered).sizes)
        assert in_time.size < hurried.size and in_time.high < hurried.high
        # That so many have answered is seen all the same.
        assert hurried.size >= before.size / 1.05


def test_where_the_centre_never_waits_longer_who_answers_by_then_is_who_answers() -> None:
    for usual_s, shows in ((9.0, True), (11.0, True), (12.0, False)):
        found = fleet_size.estimate(_led(9.0, 0, usual_s).sizes)
        in_time = fleet_size.estimate(_led(60.0, 0).sizes)
        assert (found == in_time) is shows, usual_s

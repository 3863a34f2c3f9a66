"""The round machine where masked answers to several rounds come into one sum."""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from coordinator import rounds
from coordinator.pacing import Bounds
from coordinator.roster import Roster
from coordinator.rounds import Named, Rules
from fedmqtt.effects import Note, Publish
from fedmqtt.messages import Keyholder, Masking, ModelRef, Presence, Receipt, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

BOUNDS = Bounds(
    over_selection=1.0,
    over_selection_min=1.0,
    over_selection_max=1.0,
    deadline_s=30.0,
    deadline_min_s=30.0,
    deadline_max_s=30.0,
)
RULES = Rules(
    select=lambda candidates, count, *_: tuple(candidates[:count]),
    rounds=0,
    cohort=2,
    quorum=2,
    clients_min=1,
    pace=BOUNDS,
    run=RunId("r"),
    late="weigh",
    concurrency=4,
    evaluate_every=0,
    retry_s=0.0,
    masked=True,
)
ANN, BOB, CAT, DAN = map(ClientId, ("ann", "bob", "cat", "dan"))
ONE, TWO = RoundId(1), RoundId(2)


def _masking(number: int) -> Masking:
    key = RoundKey(number, b"k" * 32, b"s" * 64)
    return Masking(
        mode="trusted",
        keyholders=(Keyholder(ClientId("agg"), 0, key),),
        places=1,
        tolerated=0,
        floor=2,
        bits=24,
        value_bits=16,
        change_max=1.0,
        lists_max=5,
        times_max=8,
    )


OLD, NEW = _masking(1), _masking(2)


def _keys_in_use(state: rounds.State) -> tuple[Masking | None, int]:
    """As they came, without the digest of what a round asked."""
    masking, offered = rounds.masking_in_use(state)
    return masking and structs.replace(masking, work=b""), offered


def _model(number: int) -> ModelRef:
    return ModelRef(digest=Digest(f"m{number}"), size_bytes=8, chunk_bytes=8, fingerprint="f")


def _answer(client: ClientId, number: RoundId, at: float = 1.0) -> rounds.UpdateCame:
    return rounds.UpdateCame(at, client, RULES.run, number, f"m{number}", "f")


class _Run:
    """A machine, and what it said last."""

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules, self.roster = rules, Roster(rules.task)
        self.state: rounds.State = rounds.begin(rules)
        here = Presence(online=True, session="1", purposes=("train",))
        for client in (ANN, BOB, CAT, DAN):
            self.take(rounds.ClientCame(0.0, client, here))
        self.take(rounds.KeysCame(0.0, OLD))
        self.take(rounds.ModelReady(0.0, _model(1)))

    def take(self, event: rounds.Event) -> Sequence[rounds.Effect]:
        self.state, effects = rounds.step(self.state, event, self._rules, self.roster)
        for effect in effects:
            if isinstance(effect, rounds.Accept | rounds.Hold) and isinstance(
                event, rounds.UpdateCame
            ):
                stored = rounds.Stored(event.at, (Named(event.client, event.round),))
                effects = [*effects, *self.take(stored)]
        return effects

    def close_first(self) -> None:
        self.take(_answer(ANN, ONE))
        effects = self.take(_answer(BOB, ONE))
        assert any(isinstance(effect, rounds.Close) for effect in effects)

    def open_second(self, masking: Masking) -> None:
        self.take(rounds.KeysCame(1.0, masking))
        self.take(rounds.ModelReady(1.0, _model(2)))
        assert isinstance(self.state, rounds.Collecting) and self.state.round == 2


def _refusals(effects: Sequence[rounds.Effect]) -> list[str]:
    said = [one.message for one in effects if isinstance(one, Publish)]
    return [one.reason for one in said if isinstance(one, Receipt) and not one.accepted]


def test_what_comes_while_a_list_is_opened_is_put_off_and_counts_when_it_comes_again() -> None:
    run = _Run()
    run.close_first()
    before = run.state
    announced = rounds.AnnounceCame(1.0, CAT, RULES.run, ONE)
    for event in (announced, _answer(CAT, ONE)):
        effects = run.take(event)
        assert [one.what for one in effects if isinstance(one, Note)] == ["put off"]
        assert not any(isinstance(one, Publish | rounds.Hold | rounds.Admit) for one in effects)
    assert run.state.past.held == before.past.held and not run.state.past.held
    run.open_second(OLD)
    assert rounds.Hold(CAT, ONE) in run.take(_answer(CAT, ONE))


def test_who_has_counted_is_told_so_also_while_a_list_is_opened() -> None:
    run = _Run()
    run.close_first()
    (receipt, *_) = [one for one in run.take(_answer(ANN, ONE)) if isinstance(one, Publish)]
    assert isinstance(receipt.message, Receipt) and receipt.message.accepted


def test_with_new_keys_answers_to_older_rounds_count_no_more() -> None:
    run = _Run()
    run.close_first()
    run.open_second(NEW)
    assert _refusals(run.take(_answer(CAT, ONE))) == [
        "late: round 1 was masked by keys that open no sum any more"
    ]
    assert _keys_in_use(run.state) == (NEW, 1)


def test_keys_are_counted_by_the_rounds_that_were_offered_with_them() -> None:
    run = _Run()
    assert _keys_in_use(run.state) == (OLD, 1)
    run.close_first()
    assert _keys_in_use(run.state) == (OLD, 1)
    run.open_second(OLD)
    assert _keys_in_use(run.state) == (OLD, 2)
    assert rounds.masking_in_use(rounds.begin(RULES)) == (None, 0)


def test_what_waited_under_other_keys_is_dropped_where_a_round_opens_with_new_ones() -> None:
    """As when a keyholder has gone for good, after a round that kept its model."""
    run = _Run()
    run.close_first()
    run.open_second(OLD)
    run.take(_answer(CAT, ONE))
    assert run.state.past.held == (Named(CAT, ONE),)
    run.take(rounds.KeysCame(2.0, NEW))
    run.take(rounds.Woke(100.0))
    assert isinstance(run.state, rounds.Collecting) and run.state.round == 3
    assert _keys_in_use(run.state) == (NEW, 1) and not run.state.past.held


def test_a_client_makes_up_one_place_of_a_cohort_however_many_answers_of_it_wait() -> None:
    run = _Run()
    run.close_first()
    run.open_second(OLD)
    run.take(_answer(CAT, ONE))
    # It was invited to the second round, too.
    effects = run.take(_answer(CAT, TWO, 2.0))
    assert not any(isinstance(one, rounds.Close) for one in effects)
    (close,) = [one for one in run.take(_answer(ANN, TWO, 3.0)) if isinstance(one, rounds.Close)]
    # Both are used up by the sum, which has the newer one.
    assert close.held == (Named(CAT, ONE),) and close.answered == {ANN, CAT}


def test_plain_asynchronous_rounds_hear_everybody_at_any_time() -> None:
    run = _Run(replace(RULES, masked=False))
    run.close_first()
    assert rounds.Hold(CAT, ONE) in run.take(_answer(CAT, ONE))

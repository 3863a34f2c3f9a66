"""What the stories leave out: a coordinator that is back and has no link yet, and the log."""

from dataclasses import replace

import pytest
from msgspec import structs

from coordinator import rounds
from coordinator.known import Report
from coordinator.pacing import Bounds
from coordinator.persistence import recovery
from coordinator.persistence.ledger import Opening, OpenRound, Refusals
from coordinator.roster import Roster
from coordinator.rounds import Named, Rules, Settled
from fedmqtt import offered_work
from fedmqtt.effects import Note, Publish
from fedmqtt.messages import (
    Keyholder,
    Masking,
    ModelRef,
    Offer,
    Presence,
    Receipt,
    RoundKey,
)
from fedmqtt.topics import ClientId, Digest, Inbox, RoundId, RunId
from fleet_sim.disk import first_carried

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
    cohort=1,
    pace=BOUNDS,
    run=RunId("r"),
)
MODEL = ModelRef(digest=Digest("m0"), size_bytes=8, chunk_bytes=8, fingerprint="f")
CLOSED = Settled(RoundId(1), frozenset(), MODEL, frozenset())
BACK = recovery.state(50.0, RULES, first_carried(RULES), [CLOSED], None, ())
"""Between rounds, as the ledger gives it back."""


def test_before_its_first_link_it_sets_no_alarm() -> None:
    assert rounds.step(BACK, rounds.Woke(50.0), RULES, Roster(RULES.task)) == (BACK, [])


def test_before_its_first_link_it_promises_no_next_round() -> None:
    """Clients come back when a receipt says so: endless time would keep them away for good."""
    late = rounds.UpdateCame(50.0, ClientId("ann"), RULES.run, RoundId(1), "m0", "f")
    _, effects = rounds.step(BACK, late, RULES, Roster(RULES.task))
    (receipt,) = [
        effect.message
        for effect in effects
        if isinstance(effect, Publish) and isinstance(effect.message, Receipt)
    ]
    assert not receipt.accepted
    assert receipt.next_round_in_s == 0.0


def test_the_log_tells_of_an_answer_that_came_again() -> None:
    ann = ClientId("ann")
    update = rounds.UpdateCame(1.0, ann, RULES.run, RoundId(1), "m0", "f")
    state: rounds.State = rounds.begin(RULES)
    roster = Roster(RULES.task)
    for event in (
        rounds.ClientCame(0.0, ann, Presence(online=True, session="1", purposes=("train",))),
        rounds.ModelReady(0.0, MODEL),
        update,
    ):
        state, _ = rounds.step(state, event, RULES, roster)
    _, on_the_way = rounds.step(state, update, RULES, roster)
    assert on_the_way == [Note("said again", "ann, round 1")]
    state, _ = rounds.step(state, rounds.Stored(1.0, (Named(ann, RoundId(1)),)), RULES, roster)
    _, stored = rounds.step(state, update, RULES, roster)
    assert Note("said again", "ann, round 1") in stored


def test_what_an_answer_told_of_its_sender_is_known_in_time_and_late() -> None:
    both = replace(BOUNDS, over_selection=2.0, over_selection_min=2.0, over_selection_max=2.0)
    rules = replace(RULES, clients_min=2, pace=both, late="weigh", late_rounds_max=3)
    ann, bob = ClientId("ann"), ClientId("bob")
    state: rounds.State = rounds.begin(rules)
    roster = Roster(rules.task)
    here = Presence(online=True, session="1", purposes=("train",))
    told = {
        client: rounds.UpdateCame(
            at, client, rules.run, RoundId(1), MODEL.digest, "f", "", samples, loss
        )
        for client, at, samples, loss in ((ann, 7.0, 30, 0.5), (bob, 9.0, 20, 0.25))
    }
    for event in (
        rounds.ClientCame(3.0, ann, here),
        rounds.ClientCame(3.0, bob, here),
        rounds.ModelReady(3.0, MODEL),
        told[ann],
    ):
        state, _ = rounds.step(state, event, rules, roster)
    assert roster.knowledge.reports == {(ann, 1): Report(samples=30, loss=0.5, took_s=4.0)}
    assert roster.took_s == [4.0]
    state, effects = rounds.step(
        state, rounds.Stored(8.0, (Named(ann, RoundId(1)),)), rules, roster
    )
    (close,) = [effect for effect in effects if isinstance(effect, rounds.Close)]
    assert close.answered == {ann} and roster.knowledge.reports == {}
    _, effects = rounds.step(state, told[bob], rules, roster)
    assert rounds.Hold(bob, RoundId(1)) in effects
    assert roster.knowledge.reports == {(bob, 1): Report(samples=20, loss=0.25)}


@pytest.mark.parametrize(
    ("base", "fault", "excused", "blamed_for"),
    [
        ("m0", "not a finite number", False, "not a finite number"),
        ("m0", "no room on our disk", True, ""),
        ("m9", "no room on our disk", True, "trained from model m9, not m0"),
    ],
    ids=["its sender's fault", "not its fault", "its fault, and another's"],
)
def test_who_could_not_have_done_otherwise_is_not_blamed(
    base: str, fault: str, excused: bool, blamed_for: str
) -> None:
    ann = ClientId("ann")
    state: rounds.State = rounds.begin(RULES)
    roster = Roster(RULES.task)
    effects: list[rounds.Effect] = []
    for event in (
        rounds.ClientCame(0.0, ann, Presence(online=True, session="1", purposes=("train",))),
        rounds.ModelReady(0.0, MODEL),
        rounds.UpdateCame(1.0, ann, RULES.run, RoundId(1), base, "f", fault, excused=excused),
    ):
        state, effects = rounds.step(state, event, RULES, roster)
    (receipt,) = [
        effect.message
        for effect in effects
        if isinstance(effect, Publish) and isinstance(effect.message, Receipt)
    ]
    assert not receipt.accepted and receipt.blamed is bool(blamed_for)
    blames = [effect for effect in effects if isinstance(effect, rounds.Blame)]
    assert blames == ([rounds.Blame(ann, blamed_for)] if blamed_for else [])


def after(closed_count: int, rules: Rules) -> rounds.State:
    """Before the round that follows on so many."""
    settled = [replace(CLOSED, round=RoundId(1 + number)) for number in range(closed_count)]
    return recovery.state(50.0, rules, first_carried(rules), settled, None, ())


@pytest.mark.parametrize(
    ("late", "closed_count", "to"),
    [("weigh", 3, {2, 3, 4, 5}), ("discard", 3, {4, 5}), ("weigh", 4, {5})],
    ids=["late answers count", "they do not", "no round will take them up"],
)
def test_answers_to_some_rounds_may_yet_count(
    late: rounds.Late, closed_count: int, to: set[int]
) -> None:
    rules = replace(RULES, late=late, late_rounds_max=2, rounds=4)
    state = after(closed_count, rules)
    assert {n for n in range(1, 6) if rounds.may_yet_count(state, RoundId(n), rules)} == to
    finished = rounds.Finished(state.past)
    assert not any(rounds.may_yet_count(finished, RoundId(n), rules) for n in range(1, 6))


def test_an_answer_to_a_round_that_is_being_closed_may_yet_count() -> None:
    """After a kill that round is open again."""
    rules = replace(RULES, late="discard", rounds=2)
    averaging = rounds.Averaging(RoundId(3), after(2, rules).past)
    assert {n for n in range(1, 5) if rounds.may_yet_count(averaging, RoundId(n), rules)} == {
        2,
        3,
        4,
    }


def test_of_a_round_that_its_centre_cut_short_a_site_learns_nothing_of_its_devices() -> None:
    bounds = replace(BOUNDS, over_selection_max=2.0, deadline_min_s=5.0)
    rules = replace(RULES, is_led=True, pace=bounds)
    ann, here = ClientId("ann"), Presence(online=True, session="1", purposes=("train",))

    def closed(closes_by: float) -> tuple[rounds.Close, Roster]:
        state: rounds.State = rounds.begin(rules)
        roster = Roster(rules.task)
        lead = rounds.Lead(round=RoundId(1), closes_by=closes_by)
        for event in (
            rounds.ClientCame(0.0, ann, here),
            rounds.ModelReady(0.0, MODEL),
            rounds.LeadCame(0.0, MODEL, lead),
        ):
            state, _ = rounds.step(state, event, rules, roster)
        _, effects = rounds.step(state, rounds.Woke(closes_by), rules, roster)
        (close,) = [effect for effect in effects if isinstance(effect, rounds.Close)]
        assert (close.outcome, close.reason) == ("kept", rounds.DEADLINE)
        # Who is silent for the second time in a row rests.
        roster.missed(closes_by, ann, 30.0)
        return close, roster

    hurried, roster = closed(9.0)
    assert hurried.pace == rounds.begin(rules).past.pace
    assert roster.willing("train") == [ann]
    in_time, roster = closed(30.0)
    assert in_time.pace.belief != hurried.pace.belief
    assert roster.willing("train") == []


def test_so_many_refusals_wait_for_a_model_and_no_more() -> None:
    crowd = [ClientId(f"c{number}") for number in range(rounds.UNSAID_MAX + 1)]
    past = after(1, RULES).past
    state: rounds.State = rounds.Averaging(RoundId(2), past)
    roster = Roster(RULES.task)
    base = MODEL.digest
    for client in (*crowd, crowd[0]):
        came = rounds.UpdateCame(60.0, client, RULES.run, RoundId(1), base, "f")
        state, effects = rounds.step(state, came, RULES, roster)
        assert effects == []
    _, effects = rounds.step(state, rounds.ModelReady(61.0, MODEL), RULES, roster)
    told = [
        one.to for one in effects if isinstance(one, Publish) and isinstance(one.message, Receipt)
    ]
    assert told == [Inbox(client) for client in crowd[:-1]]


def test_an_answer_is_to_come_to_a_round_that_has_not_been_opened_and_may_be() -> None:
    state = after(3, RULES)
    assert {n for n in range(1, 7) if rounds.is_to_come(state, RoundId(n))} == {5, 6}
    assert not rounds.is_to_come(rounds.Finished(state.past), RoundId(6))


def test_nothing_late_may_count_while_no_more_can_wait() -> None:
    rules = replace(RULES, late="weigh")
    ann = ClientId("ann")
    closed = replace(CLOSED, train=frozenset({ann}))
    held = [Named(ClientId(f"c{number}"), RoundId(1)) for number in range(rules.held_max)]
    for waiting, may in ((held, False), (held[1:], True)):
        state = recovery.state(50.0, rules, first_carried(rules), [closed], None, waiting)
        assert rounds.may_count(state, ann, rules.run, RoundId(1), rules) is may


def test_no_more_late_answers_are_taken_up_than_the_sum_has_room_for() -> None:
    """The operator made the cohort smaller while more waited than may wait now."""
    late = tuple(Named(ClientId(f"c{number}"), RoundId(1)) for number in range(3))
    ann = ClientId("ann")
    opening = Opening(
        model=MODEL,
        train=[ann],
        evaluate=[],
        deadline_s=30.0,
        terms_max=3,
        settings="",
    )
    open_round = OpenRound(
        number=RoundId(2),
        opening=opening,
        closes_in_s=30.0,
        refusals=Refusals(declined={}, rejected={}),
    )
    rules = replace(RULES, late="buffer", late_batch=3)
    state: rounds.State = recovery.state(
        50.0, rules, first_carried(rules), [CLOSED], open_round, late
    )
    roster = Roster(RULES.task)
    effects: list[rounds.Effect] = []
    for event in (
        rounds.LinkUp(50.0),
        rounds.UpdateCame(51.0, ann, RULES.run, RoundId(2), MODEL.digest, "f"),
        rounds.Stored(51.0, (Named(ann, RoundId(2)),)),
    ):
        state, effects = rounds.step(state, event, rules, roster)
    (close,) = [effect for effect in effects if isinstance(effect, rounds.Close)]
    assert close.held == late[:2]
    assert state.past.held == late[2:]


@pytest.mark.parametrize(("policy", "rounds_late"), [("discard", 0), ("weigh", 3), ("buffer", 3)])
def test_an_offer_says_for_how_many_rounds_its_answer_may_be_late(
    policy: rounds.Late, rounds_late: int
) -> None:
    """By that a client knows whether to go on when its round is over."""
    rules = replace(RULES, late=policy, late_rounds_max=3)
    state: rounds.State = rounds.begin(rules)
    roster = Roster(rules.task)
    effects: list[rounds.Effect] = []
    here = Presence(online=True, session="1", purposes=("train",))
    for event in (
        rounds.ClientCame(0.0, ClientId("ann"), here),
        rounds.ModelReady(0.0, MODEL),
    ):
        state, effects = rounds.step(state, event, rules, roster)
    (offer,) = [
        effect.message
        for effect in effects
        if isinstance(effect, Publish) and isinstance(effect.message, Offer)
    ]
    assert offer.late_rounds == rounds_late


MASKING = Masking(
    mode="trusted",
    keyholders=(Keyholder(ClientId("agg"), 0, RoundKey(1, bytes(32), bytes(64))),),
    places=1,
    tolerated=0,
    floor=2,
    bits=24,
    value_bits=20,
    change_max=1.0,
    metrics=("loss",),
    classes=3,
)


def _masked_offer(number: int, evaluate_every: int) -> Offer:
    """Of a round of which all that were heard of train and would measure."""
    rules = replace(
        RULES, masked=True, tells_measures=False, clients_min=2, evaluate_every=evaluate_every
    )
    roster = Roster(rules.task)
    state: rounds.State = rounds.Waiting(RoundId(number), rounds.begin(rules).past)
    both = Presence(online=True, session="1", purposes=("train", "evaluate"))
    events: list[rounds.Event] = [rounds.ModelReady(0.0, MODEL), rounds.KeysCame(0.0, MASKING)]
    events += [rounds.ClientCame(0.0, ClientId(name), both) for name in ("ann", "bob")]
    effects: list[rounds.Effect] = []
    for event in events:
        state, said = rounds.step(state, event, rules, roster)
        effects += said
    (offer,) = [
        effect.message
        for effect in effects
        if isinstance(effect, Publish) and isinstance(effect.message, Offer)
    ]
    return offer


@pytest.mark.parametrize(("number", "is_measured"), [(1, True), (2, False), (3, False), (4, True)])
def test_who_trains_under_masks_measures_when_that_is_due_and_nobody_else_does(
    number: int, is_measured: bool
) -> None:
    offer = _masked_offer(number, evaluate_every=3)
    assert offer.train and not offer.evaluate
    wanted = MASKING if is_measured else structs.replace(MASKING, metrics=(), classes=0)
    assert offer.masking == structs.replace(wanted, work=offered_work.digest(offer))
    # It is known before a round is open.
    assert offer.masking.work == rounds.work(replace(RULES, masked=True))
    never = _masked_offer(number, evaluate_every=0).masking
    assert never is not None and not never.is_measured


def test_where_answers_are_masked_there_is_no_last_evaluation() -> None:
    rules = replace(RULES, masked=True, tells_measures=False, rounds=1)
    roster = Roster(rules.task)
    state: rounds.State = rounds.Waiting(RoundId(2), rounds.begin(rules).past)
    here = Presence(online=True, session="1", purposes=("train", "evaluate"))
    state, _ = rounds.step(state, rounds.ClientCame(0.0, ClientId("ann"), here), rules, roster)
    state, effects = rounds.step(state, rounds.ModelReady(0.0, MODEL), rules, roster)
    assert isinstance(state, rounds.Finished) and rounds.Finish() in effects

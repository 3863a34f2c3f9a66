"""What the stories leave out: whole messages, and lines for the log."""

from dataclasses import replace

import pytest
from msgspec import structs

from edge_client import disclosed, session
from edge_client.disclosed import NOTHING
from edge_client.session import Rules, Session
from fedmqtt import sortition
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import (
    EVERYBODY,
    Decline,
    Offer,
    Presence,
    Purpose,
    Receipt,
    Sortition,
)
from fedmqtt.topics import ClientId, Digest, PresenceOf, RoundId, RunId
from tests.offers import offer

ANN, RUN = ClientId("ann"), RunId("r")
RULES = Rules(client=ANN, task="digits", purposes=("evaluate",), program="fedmqtt 9", label="watch")
OWED = session.Answer(RUN, RoundId(1), Digest("a1"), 100)


def _after(*events: session.Event) -> tuple[Session, list[session.Effect]]:
    """The state after all of them, and what the last one led to."""
    state, effects = Session(), list[session.Effect]()
    for event in events:
        state, effects = session.step(state, event, RULES)
    return state, effects


def test_before_its_first_connection_it_knows_nothing() -> None:
    assert Session() == Session(
        online=False,
        connected_at=0.0,
        thrown_out=0,
        chunk_bytes=0,
        epoch=0,
        job=None,
        owed=(),
        invitation=None,
        spread_s=0.0,
        passed_over=False,
    )


def test_nothing_is_remembered_with_an_answer_unless_it_is_said() -> None:
    assert not session.Owed(OWED, 0, 0.0).remembers
    assert not session.Finished(0.0, OWED).remembers


def test_an_answer_that_nobody_waits_for_is_forgotten_as_one_that_did_not_count() -> None:
    _, effects = _after(session.Connected(0.0, "t1", 1000), session.Finished(1.0, OWED))
    assert effects == [session.Forget(OWED, accepted=False, counted=None)]


def test_what_a_site_finds_finished_is_owed_without_having_been_offered() -> None:
    begun = disclosed.begin(NOTHING, offer(), "train")
    started = session.Started(0.0, (), told=begun, goes_on=(RUN, RoundId(1)))
    found = session.Found(1.0, OWED)
    state, effects = _after(started, found)
    assert effects == [] and [one.answer for one in state.owed] == [OWED]
    assert state.told == disclosed.finish(begun, RUN, RoundId(1)) != begun
    # Told twice, it is one.
    assert session.step(state, found, RULES)[0] == state
    _, effects = _after(started, found, session.Connected(2.0, "t1", 1000))
    assert session.Send(OWED, 0) in effects


@pytest.mark.parametrize("is_fetched", [True, False])
def test_what_is_offered_again_as_a_site_finds_it_finished_is_not_done_again(
    is_fetched: bool,
) -> None:
    offered = session.Offered(1.0, offer(task="digits"))
    fetched = session.ModelFetched(1.5, offered.offer.model.digest)
    state, _ = session.step(Session(), session.Connected(0.0, "t1", 1000), TRAINS)
    state, _ = session.step(state, offered, TRAINS)
    if is_fetched:
        state, _ = session.step(state, fetched, TRAINS)
    assert state.job is not None
    state, effects = session.step(state, session.Found(2.0, OWED), TRAINS)
    assert state.job is None and session.Stop(RUN, RoundId(1)) in effects
    assert session.Send(OWED, 0) in effects


@pytest.mark.parametrize("accepted", [True, False])
def test_what_a_receipt_says_was_counted_last_goes_to_what_is_remembered(accepted: bool) -> None:
    receipt = Receipt(run=RUN, round=RoundId(1), accepted=accepted, counted=RoundId(7))
    born = session.Connected(0.0, "t1", 1000)
    _, effects = _after(session.Started(0.0, (OWED,)), born, session.Received(1.0, receipt))
    (forgotten,) = [effect for effect in effects if isinstance(effect, session.Forget)]
    assert forgotten == session.Forget(OWED, accepted, RoundId(7))


def test_to_describe_is_said_apart_since_older_coordinators_do_not_know_it() -> None:
    rules = replace(RULES, purposes=("train", "describe"))
    said = session.presence(_after(session.Connected(0.0, "t1", 1000))[0], rules)
    assert (said.purposes, said.describes) == (("train",), True)


def test_it_says_that_it_is_there_to_a_coordinator_that_may_not_have_seen_it() -> None:
    state, births = _after(session.Connected(0.0, "t1", 1000))
    _, seen = session.step(state, session.OfferWithdrawn(1.0), RULES)
    _, unseen = session.step(state, session.OfferWithdrawn(1.0, unseen=True), RULES)
    assert (seen, unseen) == ([], births)
    assert isinstance(births[0], Publish) and births[0].to == PresenceOf(ANN)


def test_its_birth_says_who_it_is_and_what_it_would_do() -> None:
    state, effects = _after(session.Connected(0.0, "t1", 1000))
    birth = Presence(
        online=True,
        session="t1",
        task="digits",
        purposes=("evaluate",),
        program="fedmqtt 9",
        label="watch",
        draws=True,
    )
    assert session.presence(state, RULES) == birth
    assert effects == [Publish(PresenceOf(ANN), birth)]


def test_it_knows_whether_its_trouble_is_another_of_its_name() -> None:
    born = session.Connected(0.0, "t1", 1000)
    own = session.PresenceSeen(1.0, Presence(online=True, session="t1"))
    stranger = session.PresenceSeen(2.0, Presence(online=True, session="another"))
    assert not session.has_namesake(_after(born, own)[0], RULES)
    assert session.has_namesake(_after(born, own, stranger)[0], RULES)
    assert not session.has_namesake(
        _after(born, session.Troubled(1.0, "the disk is full"))[0], RULES
    )


def test_what_people_are_told_is_cut_to_what_a_message_holds() -> None:
    events: list[session.Event] = [
        session.Connected(0.0, "t1", 1000),
        session.Troubled(0.0, "x" * 2000),
    ]
    assert _after(*events)[0].trouble == "x" * 500
    started = session.Started(0.0, (OWED,))
    gone = session.AnswerGone(0.0, OWED, "x" * 2000)
    _, effects = _after(started, events[0], gone)
    (declined,) = [
        effect.message
        for effect in effects
        if isinstance(effect, Publish) and isinstance(effect.message, Decline)
    ]
    assert declined == Decline(run=RUN, round=RoundId(1), reason="x" * 500)


@pytest.mark.parametrize(
    ("receipt", "told"),
    [
        (Receipt(run=RUN, round=RoundId(1), accepted=True), "round 1 accepted"),
        (
            Receipt(run=RUN, round=RoundId(1), accepted=True, next_round_in_s=39.6),
            "round 1 accepted; next round in about 40 s",
        ),
        (
            Receipt(run=RUN, round=RoundId(1), accepted=True, next_round_in_s=1.0),
            "round 1 accepted; next round in about 1 s",
        ),
        (
            Receipt(run=RUN, round=RoundId(1), accepted=True, next_round_in_s=0.9),
            "round 1 accepted",
        ),
        (
            Receipt(run=RUN, round=RoundId(1), accepted=False, reason="late", next_round_in_s=5.0),
            "round 1 not counted: late; next round in about 5 s",
        ),
    ],
)
def test_the_log_tells_what_became_of_an_answer(receipt: Receipt, told: str) -> None:
    _, effects = _after(session.Started(0.0, (OWED,)), session.Received(1.0, receipt))
    forget = session.Forget(OWED, receipt.accepted)
    assert effects == [forget, Note("receipt", told)]


def _offer(run: str, number: int, epoch: int, late_rounds: int = 0) -> Offer:
    return offer(number, run=RunId(run), task="digits", epoch=epoch, late_rounds=late_rounds)


def test_the_log_tells_why_it_stops_what_it_has_answered_before() -> None:
    everybody = Sortition(salt="s", train=EVERYBODY, evaluate=EVERYBODY)
    offer = structs.replace(_offer("r", 1, 1), sortition=everybody)
    receipt = Receipt(run=RUN, round=RoundId(1), accepted=True)
    _, effects = _after(
        session.Connected(0.0, "t1", 1000),
        session.Offered(1.0, offer),
        session.Received(2.0, receipt),
    )
    assert effects == [
        session.Stop(RUN, RoundId(1)),
        Note("answered before", "round 1"),
    ]


def _quiet(number: int, *, train: int = EVERYBODY, begin_s: float = 0.0) -> Offer:
    drawn = Sortition(salt="s", train=train, evaluate=0, quiet=True, begin_s=begin_s)
    return structs.replace(_offer("r", number, 1), train=(), sortition=drawn)


TRAINS = replace(RULES, purposes=("train",))
CLEARED = Publish(PresenceOf(ANN), None)


def test_who_has_another_task_is_told_once_in_each_run() -> None:
    """Nobody invites it, so that it would wait without a word."""
    told: list[str] = []
    state = Session()
    events: tuple[session.Event, ...] = (
        session.Connected(0.0, "t1", 1000),
        *(session.Offered(1.0, _of_task("letters", number)) for number in (1, 2)),
        session.Disconnected(2.0),
        session.Connected(3.0, "t2", 1000),
        session.Offered(3.0, _of_task("letters", 2), retained=True),
        session.Offered(4.0, structs.replace(_of_task("letters", 1), run=RunId("s"))),
        session.Offered(5.0, structs.replace(_of_task("digits", 1), run=RunId("t"))),
    )
    for event in events:
        state, effects = session.step(state, event, RULES)
        told += [one.about for one in effects if isinstance(one, Note)]
    assert (
        told
        == [
            "the federation's task is 'letters', and here it is 'digits', so that no round asks for"
            " this client: set `task` to the federation's, and start it again"
        ]
        * 2
    )


def _of_task(task: str, number: int) -> Offer:
    return offer(number, train=(ClientId("bob"),), task=task)


def test_who_is_not_drawn_in_a_quiet_federation_says_nothing_at_all() -> None:
    state, effects = session.step(Session(), session.Started(0.0, (), quiet=True), TRAINS)
    for event in (
        session.Connected(1.0, "t1", 1000),
        session.Offered(2.0, _quiet(1, train=0)),
        session.ConditionsChanged(3.0, "on battery"),
        session.Troubled(4.0, "the disk is full"),
        session.OfferWithdrawn(5.0, unseen=True),
        session.Disconnected(6.0),
        session.Connected(7.0, "t2", 1000),
    ):
        state, more = session.step(state, event, TRAINS)
        effects += more
    assert not effects


def test_what_was_said_before_it_is_known_that_nobody_listens_is_taken_back_once() -> None:
    state, births = session.step(Session(), session.Connected(0.0, "t1", 1000), TRAINS)
    assert [type(one) for one in births] == [Publish]
    state, effects = session.step(state, session.Offered(1.0, _quiet(1, train=0)), TRAINS)
    assert effects == [CLEARED] and state.quiet
    # Its own birth, as the broker shows it a moment later; and the will of an earlier life.
    echo, will = Presence(online=True, session="t1"), Presence(online=False, session="t0")
    state, effects = session.step(state, session.PresenceSeen(2.0, echo), TRAINS)
    assert not effects
    state, effects = session.step(state, session.PresenceSeen(3.0, will), TRAINS)
    assert effects == [CLEARED]
    state, effects = session.step(state, session.Offered(4.0, _offer("r", 2, 1)), TRAINS)
    assert effects[0] == Publish(PresenceOf(ANN), session.presence(state, TRAINS))


def test_those_that_are_drawn_begin_in_turn_and_not_at_all_where_the_round_is_over() -> None:
    offer = _quiet(1, begin_s=60.0)
    assert offer.sortition is not None
    turn_at = 10.0 + 60.0 * sortition.turn(offer.sortition, offer.round, ANN)
    assert 11 < turn_at < 69
    state = replace(Session(), quiet=True, online=True)
    state, effects = session.step(state, session.Offered(10.0, offer), TRAINS)
    assert effects == [WakeAt(turn_at)]
    # Said again in the meantime: its turn is not put off.
    state, effects = session.step(state, session.Offered(turn_at - 0.5, offer), TRAINS)
    assert not effects
    begun, effects = session.step(state, session.Woke(turn_at), TRAINS)
    assert effects[0] == session.Fetch(offer.run, offer.round, offer.model)
    assert isinstance(begun.job, session.Fetching)
    over, _ = session.step(state, session.OfferWithdrawn(turn_at - 0.1), TRAINS)
    assert session.step(over, session.Woke(turn_at), TRAINS)[0].job is None


@pytest.mark.parametrize(
    ("run", "number", "epoch", "is_past"),
    [
        ("r", 1, 2, True),
        ("r", 2, 2, False),
        ("r", 3, 2, False),
        # Of another run, in which round 1 may well come after this one's round 2.
        ("q", 1, 2, False),
        ("s", 1, 2, False),
        ("s", 3, 2, False),
        # Of a coordinator before or after the present one.
        ("r", 3, 1, True),
        ("s", 1, 1, True),
        ("r", 2, 3, False),
    ],
)
def test_an_offer_is_past_once_a_later_round_or_coordinator_was_heard_of(
    run: str, number: int, epoch: int, is_past: bool
) -> None:
    """It may come with a small model, which must not take the newer one's place."""
    connected, now = session.Connected(0.0, "t1", 1000), session.Offered(1.0, _offer("r", 2, 2))
    state, _ = _after(connected, now)
    assert session.is_past(state, _offer(run, number, epoch)) == is_past


def test_no_offer_is_past_before_the_first() -> None:
    state, _ = _after(session.Connected(0.0, "t1", 1000))
    assert not session.is_past(state, _offer("r", 1, 0))
    assert not session.is_past(state, _offer("r", 1, 1))


def test_an_offer_is_said_now_unless_it_lay_there() -> None:
    """By a coordinator that has just come, and to which what was sent before is lost."""
    events = session.Started(0.0, (OWED,)), session.Connected(0.0, "t1", 1000)
    _, effects = _after(*events, session.Offered(1.0, _offer("r", 1, 0)))
    assert session.Send(OWED, 0) in effects
    _, effects = _after(*events, session.Offered(1.0, _offer("r", 1, 0), retained=True))
    assert session.Send(OWED, 0) not in effects


@pytest.mark.parametrize(
    ("run", "number", "purpose", "goes_on"),
    [
        ("r", 6, "train", True),
        ("r", 7, "train", True),
        # Too late to count, the round itself, before it, another run, of no use late.
        ("r", 8, "train", False),
        ("r", 5, "train", False),
        ("r", 4, "train", False),
        ("s", 6, "train", False),
        ("r", 6, "evaluate", False),
    ],
)
def test_work_outlives_its_round_for_as_long_as_it_counts(
    run: str, number: int, purpose: Purpose, goes_on: bool
) -> None:
    """Until then a newer round's small model must not take the place of the one it trains from."""
    offer, newer = _offer("r", 5, 0, late_rounds=2), _offer(run, number, 0, late_rounds=9)
    assert session.outlives(session.Working(offer, purpose, 60.0), newer) == goes_on
    assert not session.outlives(session.Fetching(offer, purpose, 60.0), newer)
    assert not session.outlives(None, newer)


def test_where_rounds_are_asynchronous_a_download_goes_on_unless_it_is_asked_anew() -> None:
    offer = structs.replace(_offer("r", 5, 0, late_rounds=2), asynchronous=True)
    fetching = session.Fetching(offer, "train", 60.0)
    assert session.outlives(fetching, _offer("r", 6, 0))
    assert not session.outlives(fetching, _offer("r", 6, 0), is_asked=True)

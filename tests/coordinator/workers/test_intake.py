"""What a worker asks about, adds and hands over: its machine."""

from dataclasses import replace

from coordinator.rounds import Named
from coordinator.workers import intake
from coordinator.workers.intake import (
    Add,
    Admit,
    Begin,
    Check,
    ClaimUnseen,
    Drop,
    HandOver,
    Listen,
    SayHere,
    State,
)
from fedmqtt.topics import ClientId, RoundId, RunId

RUN, ROUND = RunId("r"), RoundId(3)
ANN, BOB = ClientId("ann"), ClientId("bob")
LANES = intake.LanesCame(
    token="t", session="s", version=1, lanes=frozenset({0}), said=0, run=RUN, round=ROUND
)


def named(client: ClientId, number: int = ROUND) -> Named:
    return Named(client, RoundId(number))


def came(client: ClientId, number: int = ROUND, run: str = RUN) -> intake.Came:
    return intake.Came(named(client, number), RunId(run))


def verdicts(number: int, **more: object) -> intake.VerdictsCame:
    return intake.VerdictsCame(session="s", number=number, round=ROUND, **more)  # type: ignore[arg-type]


def play(*events: intake.Event) -> tuple[State, list[intake.Effect]]:
    """What the last of them has for effects, in a session that has begun."""
    state, effects = State(), list[intake.Effect]()
    for event in (intake.Connected("t"), LANES, *events):
        state, effects = intake.step(state, event)
    return state, effects


def test_it_says_where_it_is_as_soon_as_it_can() -> None:
    assert intake.step(State(), intake.Connected("t"))[1] == [Begin(), SayHere()]


def test_it_says_so_when_it_listens_to_what_it_was_told_to() -> None:
    assert play()[1] == [Begin(), Listen(frozenset({0})), SayHere()]


def test_what_was_said_to_a_connection_of_before_is_passed_over() -> None:
    state, _ = play()
    assert intake.step(state, replace(LANES, token="before", session="x")) == (state, [])


def test_without_a_session_nothing_is_taken_in() -> None:
    state, _ = intake.step(State(), intake.Connected("t"))
    assert intake.step(state, came(ANN)) == (state, [])


def test_an_update_is_asked_about_once() -> None:
    state, effects = play(came(ANN))
    assert effects == [Check(named(ANN))]
    assert intake.step(state, came(ANN)) == (state, [])


def test_what_cannot_count_is_not_looked_at() -> None:
    assert play(came(ANN, 2))[1] == [ClaimUnseen(named(ANN, 2))]
    assert play(came(ANN, run="another"))[1] == [ClaimUnseen(named(ANN))]


def test_a_round_that_it_has_not_heard_of_may_be_open() -> None:
    assert play(came(ANN, 4))[1] == [Check(named(ANN, 4))]


def test_what_counts_is_added_and_the_rest_is_let_go() -> None:
    _, effects = play(came(ANN), came(BOB), verdicts(1, taken=(ANN,), refused=(named(BOB),)))
    assert effects == [Admit(), Add(named(ANN)), Drop(named(BOB))]


def test_a_copy_of_what_counts_is_told_of_without_a_look() -> None:
    taken = (came(ANN), verdicts(1, taken=(ANN,)))
    assert play(*taken, came(ANN))[1] == [ClaimUnseen(named(ANN))]
    assert play(*taken, verdicts(2, collects=True), came(ANN))[1] == [ClaimUnseen(named(ANN))]


def test_what_was_refused_may_come_better() -> None:
    refused = (came(ANN), verdicts(1, refused=(named(ANN),)))
    assert play(*refused, came(ANN))[1] == [Check(named(ANN))]


def test_all_that_was_added_is_handed_over_with_what_is_taken_now() -> None:
    state, effects = play(
        came(ANN), came(BOB), verdicts(1, taken=(ANN,)), verdicts(2, taken=(BOB,), collects=True)
    )
    assert effects == [Admit(), Add(named(BOB)), HandOver(ROUND)]
    assert state.taken == ()


def test_verdicts_count_once_and_in_their_order() -> None:
    state, _ = play(came(ANN), verdicts(1))
    assert intake.step(state, verdicts(1, taken=(ANN,))) == (state, [])
    following, effects = intake.step(state, verdicts(3, taken=(ANN,)))
    assert effects == [Begin(), SayHere()]
    assert following.session == ""


def test_verdicts_that_are_missing_end_the_session() -> None:
    state, _ = play(came(ANN))
    assert intake.step(state, replace(LANES, said=1))[1] == [Begin(), SayHere()]


def test_what_is_taken_and_not_here_ends_the_session() -> None:
    assert play(verdicts(1, taken=(ANN,)))[1] == [Begin(), SayHere()]


def test_another_session_begins_with_nothing() -> None:
    state, effects = play(
        came(ANN), came(BOB), verdicts(1, taken=(ANN,)), replace(LANES, session="s2", version=2)
    )
    assert effects == [Begin(), SayHere()]
    assert (state.asked, state.taken, state.received) == (frozenset(), (), 0)


def test_what_there_was_no_room_for_may_come_again() -> None:
    assert play(came(ANN), intake.Full(named(ANN)), came(ANN))[1] == [Check(named(ANN))]


def test_who_is_not_connected_holds_nothing() -> None:
    assert play(came(ANN), intake.Disconnected()) == (State(), [Begin()])

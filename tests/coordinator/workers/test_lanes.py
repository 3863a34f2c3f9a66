"""Whose lanes are whose, and what is lost with a worker: the coordinator's machine."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.rounds import Named
from coordinator.workers import lanes
from coordinator.workers.lanes import Collect, Listen, Lose, Read, Said, State, Tell
from fedmqtt.effects import Note, Seconds, WakeAt
from fedmqtt.topics import ClientId, RoundId

A, B, C = ClientId("a"), ClientId("b"), ClientId("c")
RULES = lanes.Rules(lanes=4, terms=2, hand_over_s=1.0, at_once=1, name="ab")
ALL = frozenset(range(4))


def named(client: str) -> Named:
    return Named(ClientId(client), RoundId(1))


def step(state: State, event: lanes.Event) -> tuple[State, list[lanes.Effect]]:
    """Without what is for the log and the alarm."""
    state, effects = lanes.step(state, event, RULES)
    return state, [one for one in effects if not isinstance(one, Note | WakeAt)]


def said(state: State, worker: ClientId, at: Seconds = 0.0, sent: int = 0) -> Said:
    """That it is where it was told to be."""
    known = state.workers.get(worker)
    if known is None:
        return Said(at=at, worker=worker, token=f"t-{worker}", session="", version=0, said=0)
    return Said(
        at=at,
        worker=worker,
        token=known.token,
        session=known.session,
        version=known.version,
        said=sent,
    )


def there(*workers: ClientId) -> State:
    """They listen to their lanes."""
    state = lanes.begin(RULES)
    for worker in workers:
        state, _ = step(state, said(state, worker))
    for worker in workers:
        state, _ = step(state, said(state, worker))
    assert not state.own()
    return state


def with_taken(state: State, worker: ClientId, *clients: str) -> State:
    for client in clients:
        state, _ = step(state, lanes.Took(0.0, worker, named(client)))
    return state


def test_alone_the_coordinator_listens_to_all_lanes() -> None:
    assert lanes.begin(RULES).own() == ALL


def test_it_listens_until_the_worker_says_that_it_does() -> None:
    state, effects = step(lanes.begin(RULES), said(lanes.begin(RULES), A))
    assert effects == [Tell(A)]
    assert state.of(A) == (0, 1, 2, 3)
    assert state.own() == ALL
    state, effects = step(state, said(state, A))
    assert effects == [Listen(frozenset()), Tell(A)]


def test_who_takes_the_name_of_another_is_judged_by_its_own_settings() -> None:
    # The goodbye of the one before was lost, or comes later.
    state = with_taken(there(A, B), B, "ann")
    other = Said(at=1.0, worker=B, token="t-2", session="", version=0, said=0, refused="old")
    state, effects = step(state, other)
    assert effects == [Listen(frozenset({2, 3})), Tell(A), Lose((named("ann"),)), Tell(B)]
    assert (state.of(A), state.of(B)) == ((0, 1, 2, 3), ())
    assert state.workers[B].refused == "old"
    state, _ = step(state, replace(other, token="t-3", refused=""))
    assert (state.of(B), state.workers[B].refused) == ((2, 3), "")
    assert step(state, lanes.Left(2.0, B, "t-2")) == (state, [])


def test_what_is_said_of_older_lanes_moves_nothing() -> None:
    state, _ = step(lanes.begin(RULES), said(lanes.begin(RULES), A))
    old = replace(said(state, A), version=0)
    state, effects = step(state, old)
    assert effects == [Tell(A)]
    assert state.own() == ALL


def test_a_lane_that_moves_is_heard_by_the_coordinator_first() -> None:
    state = there(A)
    state, effects = step(state, said(state, B))
    # Before the new owner, and the old one, hear of it.
    assert effects == [Listen(frozenset({2, 3})), Tell(A), Tell(B)]
    assert (state.of(A), state.of(B)) == ((0, 1), (2, 3))
    state, effects = step(state, said(state, B))
    assert effects == [Listen(frozenset()), Tell(B)]


def test_lanes_of_who_is_gone_are_heard_at_once_and_dealt_again() -> None:
    state = with_taken(there(A, B), B, "ann")
    state, effects = step(state, lanes.Left(1.0, B, "t-b"))
    assert effects == [Listen(frozenset({2, 3})), Tell(A), Lose((named("ann"),))]
    assert state.of(A) == (0, 1, 2, 3)


def test_the_will_of_an_old_connection_changes_nothing() -> None:
    state = there(A)
    assert step(state, lanes.Left(1.0, A, "t-before")) == (state, [])


def test_each_connection_is_told_which_one_was_heard_before_under_its_name() -> None:
    state = there(A, B)
    assert state.workers[B].before == ""
    # It has left in between, or has not.
    state, _ = step(state, lanes.Left(1.0, B, "t-b"))
    for token, before in (("t-2", "t-b"), ("t-3", "t-2")):
        state, effects = step(
            state, Said(at=2.0, worker=B, token=token, session="", version=0, said=0)
        )
        assert Tell(B) in effects
        assert state.workers[B].before == before
        # Another session of the same connection tells of no other.
        state, _ = step(state, replace(said(state, B), session=""))
        assert state.workers[B].before == ""
    # What was said while nobody listened may come in any order.
    state, _ = step(state, lanes.Deaf(3.0))
    state, _ = step(state, Said(at=4.0, worker=B, token="t-4", session="", version=0, said=0))
    assert state.workers[B].before == ""


def test_who_is_silent_for_long_is_gone() -> None:
    state = there(A)
    assert step(state, lanes.Woke(lanes.SILENT_S - 1))[1] == []
    state, effects = step(state, lanes.Woke(lanes.SILENT_S))
    assert effects == [Listen(ALL)]
    assert state.workers == {}


def test_sums_are_collected_when_enough_is_in_them() -> None:
    state, effects = step(there(A), lanes.Took(0.0, A, named("ann")))
    assert effects == []
    state, effects = step(state, lanes.Took(0.5, A, named("bob")))
    assert effects == [Collect(A)]
    assert state.workers[A].asked == (named("ann"), named("bob"))


def test_sums_are_collected_when_the_first_answer_has_waited_for_long() -> None:
    state, effects = lanes.step(there(A), lanes.Took(0.25, A, named("ann")), RULES)
    assert effects == [WakeAt(1.25)]
    assert step(state, lanes.Woke(1.0))[1] == []
    assert step(state, lanes.Woke(1.25))[1] == [Collect(A)]


def test_sums_are_collected_when_the_round_waits_for_nothing_else() -> None:
    state = with_taken(there(A), A, "ann")
    assert step(state, lanes.Hurry(0.0, True))[1] == [Collect(A)]


def test_so_many_hand_over_at_a_time_and_the_oldest_first() -> None:
    state = with_taken(there(A, B), B, "ann", "bob")
    state, _ = step(state, lanes.Took(0.0, A, named("cat")))
    state, effects = step(state, lanes.Hurry(0.0, True))
    assert effects == []
    # It is waited for: there is no alarm for what cannot be collected now.
    assert WakeAt(1.0) not in lanes.step(state, lanes.Woke(0.5), RULES)[1]
    _, effects = step(state, lanes.HandedOver(0.5, B))
    assert effects == [Collect(A)]


def test_what_was_handed_over_is_not_lost_with_the_worker() -> None:
    state = with_taken(there(A), A, "ann", "bob", "cat")
    state, _ = step(state, lanes.HandedOver(0.5, A))
    assert step(state, lanes.Left(1.0, A, "t-a"))[1] == [Listen(ALL), Lose((named("cat"),))]


def test_numbered_messages_are_read_once_and_in_their_order() -> None:
    state = there(A)
    session = state.workers[A].session
    state, effects = step(state, lanes.Numbered(1.0, A, session, 1))
    assert effects == [Read()]
    assert step(state, lanes.Numbered(1.0, A, session, 1)) == (state, [])
    assert step(state, lanes.Numbered(1.0, A, "of-before", 2)) == (state, [])


@pytest.mark.parametrize(
    "missing",
    [
        lambda state: lanes.Numbered(1.0, A, state.workers[A].session, 2),
        lambda state: said(state, A, sent=1),
    ],
    ids=["by a gap", "by what it says it has sent"],
)
def test_a_message_that_is_missing_ends_the_session(
    missing: Callable[[State], lanes.Event],
) -> None:
    state = with_taken(there(A), A, "ann")
    before = state.workers[A].session
    state, effects = step(state, missing(state))
    assert effects == [Listen(ALL), Tell(A), Lose((named("ann"),))]
    assert state.workers[A].session != before
    # It has to say anew that it listens.
    assert state.own() == ALL


def test_a_worker_that_has_lost_its_link_begins_anew() -> None:
    state = with_taken(there(A), A, "ann")
    again = Said(at=1.0, worker=A, token="t-new", session="", version=0, said=0)
    state, effects = step(state, again)
    assert effects == [Listen(ALL), Tell(A), Lose((named("ann"),))]
    assert state.workers[A].token == "t-new"


def test_a_worker_that_hands_over_nothing_begins_anew() -> None:
    state = with_taken(there(A), A, "ann", "bob")
    assert state.workers[A].asked
    for at in (15.0, 30.0, 45.0):
        state, _ = step(state, said(state, A, at))
    state, effects = step(state, lanes.Woke(lanes.STUCK_S))
    assert Lose((named("ann"), named("bob"))) in effects


def test_a_worker_that_says_much_and_hands_over_nothing_begins_anew_too() -> None:
    state = with_taken(there(A), A, "ann")
    lost_at = math.inf
    for at in range(15, 4 * 3600, 15):
        known = state.workers[A]
        state, _ = step(state, said(state, A, float(at)))
        event = lanes.Numbered(float(at), A, known.session, known.received + 1)
        state, _ = step(state, event)
        state, effects = step(state, lanes.Woke(float(at)))
        if Lose((named("ann"),)) in effects:
            lost_at = at
            break
    assert lanes.STUCK_S < lost_at <= lanes.OWED_MAX_S + 15


SPOILT_AT = 1.0


def spoil(state: State, worker: ClientId) -> tuple[State, list[lanes.Effect]]:
    state, _ = step(state, said(state, worker))
    state = with_taken(state, worker, "ann", "bob")
    return step(state, lanes.Spoilt(SPOILT_AT, worker, "its sum is no good"))


def test_a_worker_that_is_of_no_use_again_and_again_gets_no_lanes() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX - 1):
        state, effects = spoil(state, B)
        assert effects == [Listen(frozenset({2, 3})), Tell(B), Lose((named("ann"), named("bob")))]
    state, effects = spoil(state, B)
    lost = Lose((named("ann"), named("bob")))
    assert effects == [Listen(frozenset({2, 3})), Tell(A), Tell(B), lost]
    assert (state.of(A), state.of(B)) == ((0, 1, 2, 3), ())
    why = state.workers[B].refused
    assert why == (
        "for 10 minutes, as it was of no use 3 times in a row, the last time for this:"
        " its sum is no good"
    )
    # Nor when it says that it is there; but when it begins anew.
    state, _ = step(state, said(state, B))
    assert state.of(B) == ()
    again = Said(at=2.0, worker=B, token="t-new", session="", version=0, said=0)
    state, _ = step(state, again)
    assert (state.of(B), state.workers[B].refused) == ((2, 3), "")


def test_a_sum_that_is_taken_makes_good_what_came_to_nothing() -> None:
    state = there(A)
    for _ in range(2 * lanes.SPOILT_MAX):
        state, _ = spoil(state, A)
        state = with_taken(state, A, "ann", "bob")
        state, _ = step(state, lanes.HandedOver(1.0, A))
    assert state.of(A) == (0, 1, 2, 3)


def test_a_worker_that_never_hands_over_gets_no_lanes() -> None:
    state = there(A)
    for number in range(1, lanes.SPOILT_MAX + 1):
        at = number * lanes.STUCK_S
        state, _ = step(state, said(state, A, at - lanes.STUCK_S))
        state, _ = step(state, lanes.Took(at - lanes.STUCK_S, A, named("ann")))
        state, _ = step(state, lanes.Hurry(at - lanes.STUCK_S, True))
        state, _ = step(state, said(state, A, at))
        state, effects = step(state, lanes.Woke(at))
        assert Lose((named("ann"),)) in effects
    assert (state.of(A), state.own()) == ((), ALL)


def test_what_was_of_no_use_is_not_forgotten_when_it_asks_for_another_session() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX):
        # Over the same connection: a message to it was lost.
        asks = replace(said(state, B), session="")
        state, _ = step(state, asks)
        state, _ = spoil(state, B)
    assert state.of(B) == ()


def test_a_worker_whose_messages_are_lost_with_what_it_holds_gets_no_lanes() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX):
        state, _ = step(state, said(state, B))
        state = with_taken(state, B, "ann", "bob")
        gap = lanes.Numbered(1.0, B, state.workers[B].session, state.workers[B].received + 2)
        state, effects = step(state, gap)
        assert Lose((named("ann"), named("bob"))) in effects
    assert state.of(B) == ()


def test_a_gap_that_costs_nobody_anything_is_held_against_nobody() -> None:
    state = there(A, B)
    for _ in range(2 * lanes.SPOILT_MAX):
        state, _ = step(state, said(state, B))
        gap = lanes.Numbered(1.0, B, state.workers[B].session, state.workers[B].received + 2)
        state, _ = step(state, gap)
    assert state.of(B) == (2, 3)


def test_who_gets_no_lanes_has_nothing_to_say_of_clients() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX):
        state, _ = spoil(state, B)
    state, _ = step(state, said(state, B))
    session = state.workers[B].session
    state, effects = step(state, lanes.Numbered(2.0, B, session, 1))
    assert effects == [] and state.workers[B].received == 1


def test_who_asks_for_another_session_again_and_again_with_what_it_holds_gets_no_lanes() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX):
        state, _ = step(state, said(state, B))
        state = with_taken(state, B, "ann")
        state, effects = step(state, replace(said(state, B), session=""))
        assert Lose((named("ann"),)) in effects
    assert state.of(B) == ()


def test_who_was_of_no_use_is_tried_once_more_after_a_while() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX):
        state, _ = spoil(state, B)
    for since in (SPOILT_AT, SPOILT_AT + lanes.SET_ASIDE_S):
        back_at = since + lanes.SET_ASIDE_S
        assert state.of(B) == ()
        for worker in (A, B):
            state, _ = step(state, said(state, worker, at=back_at - 1.0))
        state, effects = lanes.step(state, lanes.Woke(back_at - 1.0), RULES)
        assert effects == [WakeAt(back_at)] and state.of(B) == ()
        state, effects = lanes.step(state, lanes.Woke(back_at), RULES)
        told = [Listen(frozenset({2, 3})), Tell(A), Tell(B), Note("worker", "b is tried once more")]
        assert effects[:4] == told
        assert (state.of(B), state.workers[B].refused) == ((2, 3), "")
        # And once is enough then.
        state, _ = step(state, lanes.Spoilt(back_at, B, "its sum is no good"))
    state, _ = step(state, lanes.Woke(4 * lanes.SET_ASIDE_S))
    assert B not in state.workers, "it has been silent meanwhile"


def test_who_is_tried_once_more_and_hands_over_is_one_like_others() -> None:
    state = there(A, B)
    for _ in range(lanes.SPOILT_MAX):
        state, _ = spoil(state, B)
    back_at = SPOILT_AT + lanes.SET_ASIDE_S
    for worker in (A, B):
        state, _ = step(state, said(state, worker, at=back_at))
    state, _ = step(state, lanes.Woke(back_at))
    assert state.of(B) == (2, 3)
    state, _ = step(state, lanes.HandedOver(back_at, B))
    state, _ = spoil(state, B)
    assert state.of(B) == (2, 3)


def test_a_worker_of_other_settings_gets_no_lanes() -> None:
    state = lanes.begin(RULES)
    state, effects = step(state, replace(said(state, A), refused="it is another"))
    assert effects == [Tell(A)]
    assert state.of(A) == ()
    assert state.own() == ALL


def test_without_a_link_nobody_is_there_and_all_is_owed_again() -> None:
    state = with_taken(there(A, B), B, "ann")
    state, effects = step(state, lanes.Deaf(1.0))
    assert effects == [Listen(ALL), Lose((named("ann"),))]
    assert state.workers == {}


@pytest.mark.parametrize(
    ("before", "workers", "after"),
    [
        ((None,) * 5, [A, B], (A, A, A, B, B)),
        ((A,) * 5, [A, B], (A, A, A, B, B)),
        ((A, A, A, B, B), [A, B, C], (A, A, C, B, B)),
        ((A, A, C, B, B), [B, C], (B, C, C, B, B)),
        ((A, B), [A, B, C], (A, B)),
        ((A, B), [], (None, None)),
    ],
)
def test_few_lanes_move(
    before: tuple[ClientId | None, ...],
    workers: list[ClientId],
    after: tuple[ClientId | None, ...],
) -> None:
    assert lanes.dealt(before, workers) == after


def test_names_without_end_are_not_taken_note_of() -> None:
    one = there(A).workers[A]
    names = [ClientId(f"w{number}") for number in range(lanes.WORKERS_MAX)]
    state = State((None,) * 4, dict.fromkeys(names, one))
    assert step(state, said(state, ClientId("more"))) == (state, [])

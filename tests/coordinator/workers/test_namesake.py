"""Two workers of one name: how one of them notices."""

from pathlib import Path

from coordinator.config import FederationConfig, Workers
from coordinator.workers import namesake
from coordinator.workers.namesake import State
from fedmqtt import namesakes
from fedmqtt.topics import ClientId
from tests.coordinator.workers.world import World

W0 = ClientId("w0")
TOLD = "another worker calls itself 'w0': give each worker a name of its own"


def up(state: State, token: str, at: float = 0.0) -> State:
    return namesake.connected(state, at, token)


def down(state: State, at: float = 0.0) -> State:
    return namesake.disconnected(state, at, thrown_out=True)


def heard(*before: str) -> State:
    """In one connection after the other, what the coordinator had heard before."""
    state = State()
    for number, token in enumerate(before):
        state = namesake.told(up(state, f"own-{number}"), f"s-{number}", token)
        state = down(state)
    return state


def test_strangers_again_and_again_between_its_own_connections_are_another_worker() -> None:
    assert not namesake.is_certain(heard("", "b-0", "b-1"))
    assert namesake.is_certain(heard("", "b-0", "b-1", "b-2"))


def test_its_own_connections_are_no_strangers() -> None:
    assert not namesake.is_certain(heard("", *[f"own-{number}" for number in range(9)]))
    # The coordinator had not heard of each of them.
    assert not namesake.is_certain(heard("", "", "own-0", "own-0"))


def test_an_earlier_life_is_no_stranger() -> None:
    assert not namesake.is_certain(heard("before", "before", "before"))


def test_what_is_said_again_of_one_session_counts_once() -> None:
    state = namesake.told(up(heard(""), "own-1"), "s-1", "late")
    for _ in range(9):
        state = namesake.told(state, "s-1", "late")
    assert not namesake.is_certain(state)


def test_of_two_that_a_broker_lets_in_one_ends() -> None:
    def both_speak(token: str, other: str) -> list[bool]:
        state = namesake.told(up(State(), token), "s-1", "")
        ends = []
        for session in ("s-3", "s-5", "s-7", "s-9"):
            state = namesake.told(state, session, other)
            ends.append(namesake.is_certain(state))
        return ends

    assert both_speak("bbbb", other="aaaa") == [False, False, True, True]
    assert both_speak("aaaa", other="bbbb") == [False] * 4


def test_who_is_thrown_out_again_and_again_is_told_what_it_may_be() -> None:
    state = State()
    for _ in range(namesakes.THROWN_OUT_MAX):
        assert namesake.suspicion(state, W0) == ""
        state = down(up(state, "t"), at=namesakes.SOON_S - 1)
    times = "the broker ended 5 connections soon after they were made; perhaps "
    assert namesake.suspicion(state, W0) == times + TOLD
    assert namesake.suspicion(down(up(state, "t"), at=namesakes.SOON_S), W0) == ""
    # What is told twice is one end.
    assert namesake.suspicion(down(down(up(State(), "t"))), W0) == ""


def test_of_two_that_throw_each_other_out_one_ends_and_the_other_works(tmp_path: Path) -> None:
    workers = Workers(lanes=8)
    world = World(tmp_path, FederationConfig(name="ward-7", task="t", workers=workers), [W0])
    world.start(W0)
    world.settle()
    first, waits = world.workers[W0], world.throw_out(W0)
    world.start(W0)
    second = world.workers[W0]
    for _ in range(20):
        world.settle()
        if first.denied or second.denied:
            break
        leaves = world.throw_out(W0)
        world.let_in(waits)
        waits = leaves
    assert (first.denied, second.denied) == (TOLD, "")
    first.stop()
    world.settle()
    world.let_in(waits)
    world.settle()
    assert second.denied == "" and world.desk.standing() == {W0: "takes 8 of 8 lanes"}


def test_a_worker_that_is_killed_and_started_again_is_no_namesake(tmp_path: Path) -> None:
    workers = Workers(lanes=8)
    world = World(tmp_path, FederationConfig(name="ward-7", task="t", workers=workers), [W0])
    for _ in range(5):
        world.start(W0)
        world.settle()
        for _ in range(3):
            # Its link breaks now and then.
            world.let_in(world.throw_out(W0))
            world.settle()
        assert world.workers[W0].denied == ""
        world.kill(W0)

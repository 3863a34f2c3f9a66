"""So many attempts to connect at a time, first come first served."""

from collections.abc import Callable, Iterator

import pytest

from fleet_sim.connect_gate import ConnectGate
from tests.fleet_sim.hand_clock import HandLoop


@pytest.fixture
def loop() -> Iterator[HandLoop]:
    loop = HandLoop()
    yield loop
    loop.close()


def caller(tried: list[str], name: str) -> Callable[[], None]:
    return lambda: tried.append(name)


def test_only_so_many_are_inside_and_the_next_follows_who_leaves(loop: HandLoop) -> None:
    gate, tried = ConnectGate(loop, at_once=2), list[str]()
    for name in "abcd":
        gate.ask(name, caller(tried, name))
    loop.settle()
    assert tried == ["a", "b"]
    gate.leave("b")
    loop.settle()
    assert tried == ["a", "b", "c"]
    # Who is not inside makes no room.
    gate.leave("b")
    loop.settle()
    assert tried == ["a", "b", "c"] and gate.most_inside == 2


def test_who_leaves_while_waiting_is_not_called(loop: HandLoop) -> None:
    gate, tried = ConnectGate(loop, at_once=1), list[str]()
    for name in "abc":
        gate.ask(name, caller(tried, name))
    gate.leave("b")
    gate.leave("a")
    loop.settle()
    # Not even `a`, which was let in, and left before its turn came.
    assert tried == ["c"]


def test_who_asks_again_is_called_once_and_anew(loop: HandLoop) -> None:
    gate, tried = ConnectGate(loop, at_once=1), list[str]()
    gate.ask("a", caller(tried, "old"))
    gate.ask("a", caller(tried, "new"))
    loop.settle()
    assert tried == ["new"]


def test_who_withdraws_takes_its_wish_along(loop: HandLoop) -> None:
    gate, tried = ConnectGate(loop, at_once=1), list[str]()
    gate.ask("a", caller(tried, "a"))
    gate.ask("b", caller(tried, "b"))
    wish = gate.withdraw("b")
    loop.settle()
    assert tried == ["a"] and wish is not None
    wish()
    assert tried == ["a", "b"]
    # What has been called is not wished any more.
    assert gate.withdraw("a") is None and not gate.has_let_in("a")

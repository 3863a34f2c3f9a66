"""The event loop does what is due, in order, and nothing that was taken back."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from fedmqtt.event_loop import EventLoop
from tests.fedmqtt.peer import until
from tests.patience import WITHIN_S

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[Callable[[], Pair]]:
    made: list[socket.socket] = []

    def make() -> Pair:
        pair = socket.socketpair()
        made.extend(pair)
        return pair

    yield make
    for each in made:
        each.close()


def test_timers_go_off_by_time_and_then_in_the_order_they_were_set(loop: EventLoop) -> None:
    done: list[str] = []
    now = loop.now()
    loop.call_at(now - 1, lambda: done.append("later"))
    loop.call_at(now - 2, lambda: done.append("first"))
    loop.call_at(now - 1, lambda: done.append("later still"))
    loop.run_once()
    assert done == ["first", "later", "later still"]


def test_a_cancelled_timer_never_goes_off(loop: EventLoop) -> None:
    done: list[str] = []
    now = loop.now()
    second = loop.call_at(now - 1, lambda: done.append("second"))
    # Both are due in the same turn, and the first takes the second back.
    loop.call_at(now - 2, second.cancel)
    loop.call_at(now - 3, lambda: done.append("zeroth")).cancel()
    loop.run_once()
    assert done == []


def test_a_cancelled_timer_does_not_end_the_wait(loop: EventLoop) -> None:
    loop.call_in(0.0, lambda: None).cancel()
    loop.call_in(0.01, loop.stop)
    loop.run()


def test_a_timer_that_is_always_due_does_not_starve_the_sockets(
    loop: EventLoop, pairs: Callable[[], Pair]
) -> None:
    ours, theirs = pairs()
    heard: list[bytes] = []
    loop.watch(ours.fileno(), lambda _r, _w: heard.append(ours.recv(10)))

    def again() -> None:
        loop.call_at(0.0, again)

    again()
    theirs.send(b"hello")
    until(loop, lambda: heard == [b"hello"])


def test_actions_that_post_actions_do_not_starve_the_sockets(
    loop: EventLoop, pairs: Callable[[], Pair]
) -> None:
    ours, theirs = pairs()
    heard: list[bytes] = []
    loop.watch(ours.fileno(), lambda _r, _w: heard.append(ours.recv(10)))

    def again() -> None:
        loop.post(again)

    again()
    theirs.send(b"hello")
    until(loop, lambda: heard == [b"hello"])


def test_what_is_posted_happens_in_order_also_from_threads(loop: EventLoop) -> None:
    done: list[int] = []

    def post_all() -> None:
        for number in range(1000):
            loop.post_from_thread(lambda number=number: done.append(number))  # type: ignore[misc]

    thread = threading.Thread(target=post_all)
    thread.start()
    until(loop, lambda: len(done) == 1000)
    thread.join()
    assert done == list(range(1000))


def test_a_thread_ends_the_wait(loop: EventLoop) -> None:
    thread = threading.Thread(target=lambda: loop.post_from_thread(loop.stop))
    loop.post(thread.start)
    loop.run()
    thread.join()


def test_an_action_may_run_the_loop_itself(loop: EventLoop) -> None:
    done: list[str] = []
    loop.post(lambda: loop.run_once(wait_max_s=0))
    loop.post(lambda: done.append("once"))
    loop.run_once()
    loop.run_once(wait_max_s=0)
    assert done == ["once"]


def test_a_watch_ends_also_for_what_is_ready_already(
    loop: EventLoop, pairs: Callable[[], Pair]
) -> None:
    (first, to_first), (second, to_second) = pairs(), pairs()
    heard: list[int] = []

    def hear(mine: socket.socket, other: socket.socket) -> None:
        heard.append(mine.fileno())
        loop.unwatch(other.fileno())

    loop.watch(first.fileno(), lambda _r, _w: hear(first, second))
    loop.watch(second.fileno(), lambda _r, _w: hear(second, first))
    to_first.send(b".")
    to_second.send(b".")
    loop.run_once(wait_max_s=0)
    loop.run_once(wait_max_s=0)
    # Whichever was first unwatched the other, and goes on being told: nobody read its byte.
    assert len(heard) == 2
    assert len(set(heard)) == 1


def test_a_descriptor_that_is_used_again_does_not_reach_the_old_callback(
    loop: EventLoop, pairs: Callable[[], Pair]
) -> None:
    (first, to_first), (second, to_second) = pairs(), pairs()
    heard: list[str] = []

    def replace(mine: socket.socket, other: socket.socket) -> None:
        loop.unwatch(mine.fileno())
        loop.unwatch(other.fileno())
        # The same number, another life.
        loop.watch(other.fileno(), lambda _r, _w: heard.append("new"))

    loop.watch(first.fileno(), lambda _r, _w: replace(first, second))
    loop.watch(second.fileno(), lambda _r, _w: replace(second, first))
    to_first.send(b".")
    to_second.send(b".")
    loop.run_once(wait_max_s=0)
    assert heard == []
    loop.run_once(wait_max_s=0)
    assert heard == ["new"]


def test_a_watch_tells_readable_from_writable(loop: EventLoop, pairs: Callable[[], Pair]) -> None:
    ours, theirs = pairs()
    told: list[tuple[bool, bool]] = []
    loop.watch(ours.fileno(), lambda *ready: told.append(ready), write=True)
    loop.run_once(wait_max_s=0)
    theirs.send(b".")
    loop.run_once(wait_max_s=0)
    loop.watch(ours.fileno(), lambda *ready: told.append(ready))
    loop.run_once(wait_max_s=0)
    assert told == [(False, True), (True, True), (True, False)]


def test_unwatching_what_nobody_watches_or_what_is_closed_is_no_mistake(
    loop: EventLoop, pairs: Callable[[], Pair]
) -> None:
    ours, _theirs = pairs()
    loop.unwatch(ours.fileno())
    ours.close()
    loop.unwatch(ours.fileno())


def test_a_stop_before_the_run_is_not_lost(loop: EventLoop) -> None:
    loop.stop()
    loop.run()
    loop.call_in(0.0, loop.stop)
    loop.run()


def test_closing_gives_the_signals_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    loop = EventLoop()
    loop.stop_on_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    loop.run()
    assert loop.stop_signal == signal.SIGTERM
    loop.close()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


_PROGRAM = """
from fedmqtt.event_loop import EventLoop
loop = EventLoop()
loop.stop_on_signals()
loop.post(lambda: print("runs", flush=True))
loop.run()
print("ended by", loop.stop_signal, flush=True)
loop.{last}()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(number: signal.Signals) -> None:
    with _program(last="close") as process:
        assert _line(process) == "runs"
        process.send_signal(number)
        assert _line(process) == f"ended by {number.value}"
        assert process.wait(WITHIN_S) == 0


def test_a_second_signal_kills_whichever_it_is() -> None:
    with _program(last="run") as process:
        assert _line(process) == "runs"
        process.send_signal(signal.SIGTERM)
        assert _line(process) == "ended by 15"
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == -signal.SIGINT


def _program(last: str) -> subprocess.Popen[str]:
    code = _PROGRAM.format(last=last)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()

"""One thread in which a program waits: for sockets, for pipes, for time, for what others post.

Everything our programs do happens in callbacks of this loop, one after the other, so none of our
code needs a lock. It sleeps in the kernel until something happens: an idle program costs nothing.
"""

import contextlib
import heapq
import itertools
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from fedmqtt.effects import Seconds

Action = Callable[[], None]
OnReady = Callable[[bool, bool], None]
"""(readable, writable)"""

_SignalHandler = Callable[[int, FrameType | None], Any] | int | None

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(order=True, slots=True)
class Timer:
    """An action to come. `cancel` before it has happened and it never will."""

    at: Seconds
    number: int
    action: Action | None = field(compare=False)

    def cancel(self) -> None:
        self.action = None


class EventLoop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._posted: deque[Action] = deque()
        self._stopped = False
        self._stop_signal: int | None = None
        self._signals_before: dict[int, _SignalHandler] = {}
        # A byte through this pair ends the wait: from another thread, or from a signal.
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self.watch(self._woken.fileno(), lambda _readable, _writable: self._drain())

    def now(self) -> Seconds:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def watch(self, fd: int, on_ready: OnReady, *, write: bool = False) -> None:
        """Call `on_ready` whenever `fd` can be read, and written if `write`. Again: replaces."""
        events = _READ | _WRITE if write else _READ
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, on_ready)
        else:
            self._selector.register(fd, events, on_ready)

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed: a number that is reused must not reach the old callback."""
        if fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    def call_at(self, at: Seconds, action: Action) -> Timer:
        timer = Timer(at, next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        return timer

    def call_in(self, delay_s: Seconds, action: Action) -> Timer:
        return self.call_at(self.now() + delay_s, action)

    def post(self, action: Action) -> None:
        """Do this next. From within the loop only; see `post_from_thread`."""
        self._posted.append(action)

    def post_from_thread(self, action: Action) -> None:
        self._posted.append(action)
        self._wake()

    def stop(self) -> None:
        """End `run` after what is happening now."""
        self._stopped = True
        self._wake()

    def stop_on_signals(self) -> None:
        """Ctrl-C and a service manager's TERM end `run` in an orderly way; a second one kills."""
        for number in _STOP_SIGNALS:
            self._signals_before[number] = signal.signal(number, self._on_signal)

    @property
    def stop_signal(self) -> int | None:
        """The signal that ended `run`, if one did."""
        return self._stop_signal

    def is_stopping(self) -> bool:
        """For who does not wait in this loop: whether a signal says that it is to end."""
        return self._stop_signal is not None

    def run(self) -> None:
        """Until `stop`, also one that came before this. May be called again."""
        while not self._stopped:
            self.run_once()
        self._stopped = False

    def run_once(self, wait_max_s: Seconds | None = None) -> None:
        """Wait for what is next, at most so long, and do all that is due."""
        for key, events in self._selector.select(self._wait_s(wait_max_s)):
            # An earlier callback of this batch may have stopped watching a later one, and its
            # number may be in use again: the kernel tells of that one the next time.
            if self._selector.get_map().get(key.fd) is key:
                on_ready: OnReady = key.data
                on_ready(bool(events & _READ), bool(events & _WRITE))
        self._do_due()
        # Only what is there now: actions that post actions must not starve the sockets.
        for _ in range(len(self._posted)):
            # An action that calls `run_once` itself has done those behind it.
            if self._posted:
                self._posted.popleft()()

    def close(self) -> None:
        for number, before in self._signals_before.items():
            signal.signal(number, before)
        self._signals_before.clear()
        self._selector.close()
        self._waker.close()
        self._woken.close()

    def _wait_s(self, at_most_s: Seconds | None) -> Seconds | None:
        if self._posted or self._stopped:
            return 0.0
        while self._timers and self._timers[0].action is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return at_most_s
        wait_s = max(0.0, self._timers[0].at - self.now())
        return wait_s if at_most_s is None else min(wait_s, at_most_s)

    def _do_due(self) -> None:
        now = self.now()
        due: list[Timer] = []
        while self._timers and self._timers[0].at <= now:
            due.append(heapq.heappop(self._timers))
        # Taken out first: an action that asks for a moment in the past must not starve sockets.
        for timer in due:
            # Looked at now: an earlier one may have cancelled it.
            if timer.action is not None:
                timer.action()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._stop_signal = number
        self.stop()

    def _wake(self) -> None:
        # A full pair means that the loop is being woken already.
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

"""So many attempts to connect at a time, for all links of a swarm.

A broker accepts from a queue that the kernel bounds (Mosquitto's holds 100). Ten thousand who
knock at once overflow it, and each of those waits a second or more until it is heard again: a
minute instead of seconds.
"""

from collections.abc import Callable, Hashable

from fedmqtt.event_loop import EventLoop

CONNECTS_AT_ONCE = 64


class ConnectGate:
    def __init__(self, loop: EventLoop, at_once: int = CONNECTS_AT_ONCE) -> None:
        self._loop = loop
        self._at_once = at_once
        self._waiting: dict[Hashable, Callable[[], None]] = {}
        """First come, first served."""
        self._inside: dict[Hashable, Callable[[], None]] = {}
        self.most_inside = 0
        """At any moment so far."""

    def ask(self, who: Hashable, connect: Callable[[], None]) -> None:
        """`connect` is called from the event loop when there is room, until `leave`."""
        self._inside.pop(who, None)
        self._waiting[who] = connect
        self._admit()

    def leave(self, who: Hashable) -> None:
        """It has its answer, or does not want to connect any more."""
        self._waiting.pop(who, None)
        if self._inside.pop(who, None) is not None:
            self._admit()

    def withdraw(self, who: Hashable) -> Callable[[], None] | None:
        """`leave`, and what would have been called, if it has not been yet."""
        connect = self._waiting.get(who)
        self.leave(who)
        return connect

    def has_let_in(self, who: Hashable) -> bool:
        return who in self._inside

    def _admit(self) -> None:
        while self._waiting and len(self._inside) < self._at_once:
            who = next(iter(self._waiting))
            connect = self._waiting.pop(who)
            self._inside[who] = connect
            self.most_inside = max(self.most_inside, len(self._inside))
            self._loop.post(lambda who=who, connect=connect: self._enter(who, connect))  # type: ignore[misc]

    def _enter(self, who: Hashable, connect: Callable[[], None]) -> None:
        # It may have left meanwhile, and even have asked again.
        if self._inside.get(who) is connect:
            connect()

"""A view of a federation that stays up to date, as a screen or as one line for each event."""

import sys
from typing import Protocol

from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.mqtt_link import BrokerUrl
from round_monitor.board import Board
from round_monitor.feed import Feed, clock_time, utc_time

_BETWEEN_DRAWINGS_S = 0.25
_TICK_S = 1.0


class _Display(Protocol):
    def start(self) -> None: ...
    def show(self, board: Board, now: str, trouble: str) -> None: ...
    def stop(self) -> None: ...


class LiveView:
    """Shows a federation while `loop` runs, between `start` and `stop`.

    Raises ModuleNotFoundError if it is not `plain` and rich is missing, ValueError if the
    federation's name is wrong.
    """

    def __init__(
        self, loop: EventLoop, broker: BrokerUrl, federation: str, heading: str, plain: bool
    ) -> None:
        self._loop = loop
        self._display = _Lines() if plain else _screen(heading)
        self._feed = Feed(loop, broker, federation, self._show_soon)
        self._drawing: Timer | None = None
        self._ticking: Timer | None = None
        self._drawn_at = -_BETWEEN_DRAWINGS_S
        self._started = False

    @property
    def board(self) -> Board:
        return self._feed.board

    @property
    def denied(self) -> str:
        """Why the broker will never let us in; empty as long as there is hope."""
        return self._feed.lost if self._feed.is_hopeless else ""

    def start(self) -> None:
        self._started = True
        self._display.start()
        self._feed.open()
        self._tick()

    def stop(self) -> None:
        """Shows what is not shown yet, and gives the terminal back. Again: does nothing."""
        if not self._started:
            return
        self._started = False
        for timer in (self._drawing, self._ticking):
            if timer is not None:
                timer.cancel()
        try:
            self._display.show(self.board, utc_time(), self._feed.trouble)
        finally:
            # Before the broker's goodbye, which may take a while.
            self._display.stop()
            self._feed.close()

    def _show_soon(self) -> None:
        if self.denied:
            self._loop.stop()
        if self._started and self._drawing is None:
            at = max(self._loop.now(), self._drawn_at + _BETWEEN_DRAWINGS_S)
            self._drawing = self._loop.call_at(at, self._show)

    def _show(self) -> None:
        self._drawing = None
        self._drawn_at = self._loop.now()
        self._display.show(self.board, utc_time(), self._feed.trouble)

    def _tick(self) -> None:
        # The time left runs, and the terminal may have another size by now.
        self._show_soon()
        self._ticking = self._loop.call_in(_TICK_S, self._tick)


class _Lines:
    """For logs: each event once, and trouble when it comes and goes."""

    def __init__(self) -> None:
        self._told = 0
        self._trouble = ""

    def start(self) -> None:
        pass

    def show(self, board: Board, now: str, trouble: str) -> None:
        lines = []
        if trouble != self._trouble:
            lines.append(f"{clock_time()}  {trouble or 'connected'}")
            self._trouble = trouble
        lines += [f"{event.at}  {event.text}" for event in board.newest_events(self._told)]
        self._told = board.event_count
        if lines:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()

    def stop(self) -> None:
        pass


def _screen(heading: str) -> _Display:
    # Here, because rich is an extra that one line for each event does not need.
    from round_monitor.screen import Screen

    return Screen(heading)

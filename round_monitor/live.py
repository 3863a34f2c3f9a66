"""A federation as one line for each event: for logs, and where there is no screen."""

import sys

from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.mqtt_link import BrokerUrl
from round_monitor import stdout
from round_monitor.board import Board
from round_monitor.feed import Feed, clock_time

_BETWEEN_LINES_S = 0.25


class LiveLines:
    """Writes to stdout while `loop` runs, between `start` and `stop`: each event once, and trouble
    when it comes and goes. Raises ValueError if the federation's name is wrong."""

    def __init__(self, loop: EventLoop, broker: BrokerUrl, federation: str) -> None:
        self._loop = loop
        self._feed = Feed(loop, broker, federation, self._tell_soon)
        self._telling: Timer | None = None
        self._started = False
        self._told = 0
        self._trouble = ""

    @property
    def board(self) -> Board:
        return self._feed.board

    @property
    def denied(self) -> str:
        """Why the broker will never let us in; empty as long as there is hope."""
        return self._feed.lost if self._feed.is_hopeless else ""

    def start(self) -> None:
        self._started = True
        self._feed.open()
        self._tell_soon()

    def stop(self) -> None:
        """Tells what is not told yet. Again: does nothing."""
        if not self._started:
            return
        self._started = False
        if self._telling is not None:
            self._telling.cancel()
        try:
            self._tell()
        finally:
            self._feed.close()

    def _tell_soon(self) -> None:
        if self.denied:
            self._loop.stop()
        if self._started and self._telling is None:
            self._telling = self._loop.call_in(_BETWEEN_LINES_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        lines = []
        if self._feed.trouble != self._trouble:
            self._trouble = self._feed.trouble
            lines.append(f"{clock_time()}  {self._trouble or 'connected'}")
        lines += [f"{event.at}  {event.text}" for event in self.board.newest_events(self._told)]
        self._told = self.board.event_count
        if lines:
            with stdout.printing():
                sys.stdout.write("".join(f"{line}\n" for line in lines))

"""What is known of a federation, kept up to date beside a program that has a loop of its own.

The link waits in a thread, since to connect blocks while a host does not answer, and a person who
presses a key must not wait for that. What it knows is handed over as copies.
"""

import threading
from dataclasses import dataclass

from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import BrokerUrl
from round_monitor.board import Board
from round_monitor.feed import Feed

_BETWEEN_COPIES_S = 0.25
_GOODBYE_S = 2.0
"""To the broker; a host that does not answer is not waited for."""


@dataclass(frozen=True, slots=True)
class Sight:
    """All there is to see at one moment. Nobody changes the board any more."""

    board: Board
    lost: str
    """Why there may be nothing new, or empty."""
    denied: str = ""
    """Why the broker will never let us in, or empty."""


class FeedThread:
    """Between `start` and `stop`, `newest` is a sight of now. Raises ValueError if the federation's
    name is wrong."""

    def __init__(self, broker: BrokerUrl, federation: str) -> None:
        self._loop = EventLoop()
        self._feed = Feed(self._loop, broker, federation, self._copy_soon)
        self._is_copying = False
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.newest = Sight(Board(), self._feed.trouble)
        """Another object whenever there is something else to see."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.stop()
        self._thread.join(_GOODBYE_S)

    def _run(self) -> None:
        try:
            self._feed.open()
            self._loop.run()
        finally:
            self._feed.close()
            self._loop.close()

    def _copy_soon(self) -> None:
        # A round of 1,000 clients brings hundreds of pages in a second.
        if not self._is_copying:
            self._is_copying = True
            self._loop.call_in(_BETWEEN_COPIES_S, self._copy)

    def _copy(self) -> None:
        self._is_copying = False
        feed = self._feed
        denied = feed.lost if feed.is_hopeless else ""
        self.newest = Sight(feed.board.copy(), feed.trouble, denied)

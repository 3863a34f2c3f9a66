"""Follows a federation's status pages for another tool, until it is told to end."""

import logging
from collections.abc import Callable

from fedmqtt.command_line import EXIT_DENIED
from fedmqtt.credentials import Role
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.status_pages import CLIENT_PAGES
from round_monitor.board import Board
from round_monitor.feed import Feed

_log = logging.getLogger(__name__)

# Pages come one by one right after connecting: before, nobody knows whether there are any.
_PAGES_WITHIN_S = 2.0

WATCHERS: tuple[Role, ...] = ("monitor", "coordinator", "operator")
"""Accounts that may read status topics."""


class ExportError(Exception):
    """What was to be exported cannot be written; says where and why."""

    exit_code = 1


class Denied(ExportError):
    """The broker does not let us in; says why."""

    exit_code = EXIT_DENIED


class Following:
    """`on_page` is called with the name of each page that has changed: it is on the board then."""

    def __init__(self, federation: str, broker: BrokerUrl, on_page: Callable[[str], None]) -> None:
        self._loop = EventLoop()
        self._feed = Feed(self._loop, broker, federation, self._on_change, on_page)
        self._told: str | None = None
        self._told_unreadable: set[str] = set()

    @property
    def board(self) -> Board:
        return self._feed.board

    @property
    def is_connected(self) -> bool:
        return self._feed.is_connected

    def run(self) -> None:
        """Until Ctrl-C or TERM. A broker that is away is tried again. Raises Denied, and what
        `on_page` raises."""
        self._loop.stop_on_signals()
        try:
            self._feed.open()
            self._loop.run()
        finally:
            self._feed.close()
            self._loop.close()
        if self._feed.is_hopeless:
            raise Denied(self._feed.lost)

    def _on_change(self) -> None:
        if self._feed.is_hopeless:
            self._loop.stop()
        elif self._feed.is_connected and self._feed.trouble:
            self._loop.call_in(_PAGES_WITHIN_S, self._tell)
        else:
            self._tell()
        self._tell_unreadable()

    def _tell(self) -> None:
        if self._feed.trouble != self._told:
            self._told = self._feed.trouble
            _log.info("%s", self._told or "connected")

    def _tell_unreadable(self) -> None:
        """Once of each page, and once of all pages of clients: whoever may publish decides how many
        there are."""
        for page, why in self.board.unreadable.items():
            kind = CLIENT_PAGES if page.startswith(CLIENT_PAGES) else page
            if kind not in self._told_unreadable:
                self._told_unreadable.add(kind)
                _log.warning("cannot read %s (a newer coordinator?)", why)

"""The status pages of one federation, from the broker onto a board, for as long as it is open."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from fedmqtt import client_ids
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import (
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
)
from fedmqtt.status_pages import CLIENT_PAGES, PAGES
from fedmqtt.topics import ClientId, StatusPage, Topics
from round_monitor.board import Board

# Somebody is looking at the screen: sooner than a program that nobody waits for.
_RETRY_MAX_S = 2.0
# Pages come one by one right after subscribing; after such a pause there are no more.
_QUIET_S = 0.5


class Feed:
    """`on_change` is called when there is something else to see: a page, or trouble. Before it
    `on_page` hears which page that is.

    Raises ValueError when the federation's name is wrong.
    """

    def __init__(
        self,
        loop: EventLoop,
        broker: BrokerUrl,
        federation: str,
        on_change: Callable[[], None],
        on_page: Callable[[str], None] = lambda _page: None,
    ) -> None:
        topics = Topics(federation)
        self._loop = loop
        self._broker = broker
        self._federation = federation
        self._on_change = on_change
        self._on_page = on_page
        options = LinkOptions(
            # A name of its own for each: a broker lets go of the older of two with one name.
            client_id=client_ids.of_monitor(secrets.token_hex(6)),
            subscribe=(topics.any_status,),
            retry_max_s=_RETRY_MAX_S,
        )
        self._link = MqttLink(loop, self._broker, topics, options, self._handle)
        self._heard_at: Seconds | None = None
        self._asked: set[ClientId] = set()
        """For whose pages, over this connection."""
        self.board = Board()
        self.trouble = f"connecting to {self._broker} ..."
        """Why there may be nothing new, or empty."""
        self.lost = "no answer so far"
        """Why there is no connection, when there is none."""
        self.is_hopeless = False
        """Whether to try again is of no use."""

    @property
    def is_connected(self) -> bool:
        return self._link.is_up

    def open(self) -> None:
        self._link.open()

    def close(self) -> None:
        self._link.close()

    def wait_for_pages(self, at_most_s: Seconds, *, and_clients: bool = False) -> None:
        """Until all pages are there, or those that there are, or a signal ends it. How many clients
        have one of their own, nobody says: to have those as well takes a pause longer."""
        ends_at = self._loop.now() + at_most_s
        while not self.is_hopeless and self._loop.stop_signal is None:
            if self.board.is_complete and not and_clients:
                break
            quiet_at = ends_at if self._heard_at is None else self._heard_at + _QUIET_S
            left_s = min(ends_at, quiet_at) - self._loop.now()
            if left_s <= 0:
                break
            self._loop.run_once(wait_max_s=left_s)

    def _handle(self, event: LinkEvent) -> None:
        match event:
            case LinkUp():
                self._link.ask_by_name(StatusPage(page) for page in PAGES)
                self._asked.clear()
                self.trouble = self._nothing() if self.board.is_empty else ""
                self._on_change()
            case LinkDown(reason, _, hopeless=hopeless):
                self.lost = reason
                self.is_hopeless = hopeless
                self.trouble = f"no connection, trying again: {reason}"
                self._on_change()
            case Arrived(StatusPage(page), payload, retained=retained):
                self._heard_at = self._loop.now()
                unreadable_before = self.board.unreadable_count
                is_new = self.board.take(page, payload, at=clock_time())
                # Anybody's bytes are no sign that the coordinator works.
                if not retained and self.board.unreadable_count == unreadable_before:
                    self.board.heard_at = utc_time()
                if is_new:
                    self.trouble = ""
                    self._on_page(page)
                    self._on_change()
                if page == "clients":
                    self._ask_for_clients()
            case _:
                pass

    def _ask_for_clients(self) -> None:
        """For the pages of those that are new on the list, where wildcards bring none."""
        if (page := self.board.clients) is not None:
            new = [one for one in (*page.online, *page.away) if one not in self._asked]
            self._asked.update(new)
            self._link.ask_by_name(StatusPage(CLIENT_PAGES + client) for client in new)

    def _nothing(self) -> str:
        return f"connected; nothing published for a federation {self._federation!r} so far"


def clock_time() -> str:
    """Here and now, for people."""
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")


def utc_time() -> str:
    """ISO 8601, to compare with the times on pages."""
    return datetime.now(UTC).isoformat()

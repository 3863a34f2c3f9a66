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
from fedmqtt.status_pages import PAGES
from fedmqtt.topics import StatusPage, Topics
from round_monitor.board import Board

# Somebody is looking at the screen: sooner than a program that nobody waits for.
_RETRY_MAX_S = 2.0
# Pages come one by one right after subscribing; after such a pause there are no more.
_QUIET_S = 0.5


class Feed:
    """`on_change` is called when there is something else to see: a page, or trouble.

    Raises ValueError when the federation's name is wrong.
    """

    def __init__(
        self, loop: EventLoop, broker: BrokerUrl, federation: str, on_change: Callable[[], None]
    ) -> None:
        topics = Topics(federation)
        self._loop = loop
        self._broker = broker
        self._federation = federation
        self._on_change = on_change
        options = LinkOptions(
            # A name of its own for each: a broker lets go of the older of two with one name.
            client_id=client_ids.of_monitor(secrets.token_hex(6)),
            subscribe=(topics.any_status,),
            retry_max_s=_RETRY_MAX_S,
        )
        self._link = MqttLink(loop, self._broker, topics, options, self._handle)
        self._heard_at: Seconds | None = None
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

    def wait_for_pages(self, at_most_s: Seconds) -> None:
        """Until all pages are there, or those that there are, or a signal ends it."""
        ends_at = self._loop.now() + at_most_s
        while not (self.board.is_complete or self.is_hopeless) and self._loop.stop_signal is None:
            quiet_at = ends_at if self._heard_at is None else self._heard_at + _QUIET_S
            left_s = min(ends_at, quiet_at) - self._loop.now()
            if left_s <= 0:
                break
            self._loop.run_once(wait_max_s=left_s)

    def _handle(self, event: LinkEvent) -> None:
        match event:
            case LinkUp():
                self._link.ask_by_name(StatusPage(page) for page in PAGES)
                self.trouble = self._nothing() if self.board.is_empty else ""
                self._on_change()
            case LinkDown(reason, _, hopeless=hopeless):
                self.lost = reason
                self.is_hopeless = hopeless
                self.trouble = f"no connection, trying again: {reason}"
                self._on_change()
            case Arrived(StatusPage(page), payload):
                self._heard_at = self._loop.now()
                if self.board.take(page, payload, at=clock_time()):
                    self.trouble = ""
                    self._on_change()
            case _:
                pass

    def _nothing(self) -> str:
        return f"connected; nothing published for a federation {self._federation!r} so far"


def clock_time() -> str:
    """Here and now, for people."""
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")


def utc_time() -> str:
    """ISO 8601, to compare with the times on pages."""
    return datetime.now(UTC).isoformat()

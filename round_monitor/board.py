"""The newest of each status page, and a short log of what happened, found by comparing pages.

Knows nothing of MQTT, of terminals or of time: a page is a name and bytes.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from fedmqtt.status_pages import (
    CLIENT_PAGES,
    LISTED_CLIENTS,
    PAGES,
    ClientPage,
    ClientsPage,
    CoordinatorPage,
    HistoryPage,
    ModelPage,
    OrdersPage,
    PacePage,
    Page,
    PageError,
    ParticipationPage,
    RoundPage,
    TrafficPage,
    decode,
)
from round_monitor import events
from round_monitor.events import Event

KEPT_EVENTS = 200

_TEXT_LENGTH_MAX = 600

_P = TypeVar("_P", bound=Page)


class Board:
    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}
        self._clients: dict[str, ClientPage] = {}
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        """Oldest first."""
        self.event_count = 0
        """Of all times, the forgotten ones too."""
        self.unreadable_count = 0
        self.unreadable_last = ""
        self.unreadable: dict[str, str] = {}
        """Why the newest of each page cannot be read, by the page's name, where it cannot: what is
        known of such a page is what it said before."""
        self.heard_at = ""
        """When something was last said while we listened, by our own clock in ISO 8601. Empty: what
        there is lay on the broker."""

    def copy(self) -> "Board":
        """As it is now: pages are values, so that another thread may read the copy."""
        twin = Board()
        twin._pages, twin._clients = self._pages.copy(), self._clients.copy()
        twin.events, twin.event_count = self.events.copy(), self.event_count
        twin.unreadable_count = self.unreadable_count
        twin.unreadable_last = self.unreadable_last
        twin.unreadable = self.unreadable.copy()
        twin.heard_at = self.heard_at
        return twin

    def take(self, name: str, payload: bytes, at: str = "") -> bool:
        """Whether this changes what there is to see. `at` is the time that events are stamped with.

        An empty payload withdraws the page, as it does on the broker. A page of a name that we do
        not know is for a newer monitor than this.
        """
        if name.startswith(CLIENT_PAGES):
            return self._take_client(name, payload)
        if name not in PAGES:
            return False
        was_unreadable = self.unreadable.pop(name, None) is not None
        if not payload:
            return self._pages.pop(name, None) is not None or was_unreadable
        page = self._read(name, payload)
        if page is None:
            return True
        if page == self._pages.get(name):
            return was_unreadable
        for event in self._compare(page):
            self.events.append(replace(event, at=at))
            self.event_count += 1
        self._pages[name] = page
        return True

    def _take_client(self, name: str, payload: bytes) -> bool:
        client = name.removeprefix(CLIENT_PAGES)
        was_unreadable = self.unreadable.pop(name, None) is not None
        if not payload:
            return self._clients.pop(client, None) is not None or was_unreadable
        is_new = client not in self._clients
        if is_new and len(self._clients) >= LISTED_CLIENTS:
            # No coordinator publishes so many: whoever does must not fill our memory.
            return False
        page = self._read(name, payload)
        if not isinstance(page, ClientPage):
            return True
        if page == self._clients.get(client):
            return was_unreadable
        self._clients[client] = page
        return True

    def _read(self, name: str, payload: bytes) -> Page | None:
        """None for what is no page; it is counted."""
        try:
            return _readable(decode(name, payload))
        except PageError as bad:
            self.unreadable_count += 1
            self.unreadable_last = _printable(str(bad))
            # Whoever publishes many of clients' pages must not fill our memory.
            if name in PAGES or len(self.unreadable) < LISTED_CLIENTS:
                self.unreadable[name] = self.unreadable_last
            return None

    @property
    def is_empty(self) -> bool:
        return not self._pages

    @property
    def is_complete(self) -> bool:
        """Every page that a coordinator publishes has been seen."""
        return self._pages.keys() == PAGES.keys()

    @property
    def coordinator(self) -> CoordinatorPage | None:
        return self._page("coordinator", CoordinatorPage)

    @property
    def round(self) -> RoundPage | None:
        return self._page("round", RoundPage)

    @property
    def pace(self) -> PacePage | None:
        return self._page("pace", PacePage)

    @property
    def model(self) -> ModelPage | None:
        return self._page("model", ModelPage)

    @property
    def history(self) -> HistoryPage | None:
        return self._page("history", HistoryPage)

    @property
    def clients(self) -> ClientsPage | None:
        return self._page("clients", ClientsPage)

    @property
    def each_client(self) -> Mapping[str, ClientPage]:
        """Clients' own pages, by the name in the topic; at most `LISTED_CLIENTS`."""
        return self._clients

    @property
    def participation(self) -> ParticipationPage | None:
        return self._page("participation", ParticipationPage)

    @property
    def traffic(self) -> TrafficPage | None:
        return self._page("traffic", TrafficPage)

    @property
    def orders(self) -> OrdersPage | None:
        return self._page("orders", OrdersPage)

    def newest(self, name: str) -> Page | None:
        """The page of this name, a client's too; None where there is none."""
        if name.startswith(CLIENT_PAGES):
            return self._clients.get(name.removeprefix(CLIENT_PAGES))
        return self._pages.get(name)

    def newest_events(self, since_count: int) -> list[Event]:
        """Those that came after `event_count` was `since_count`, as far as they are kept."""
        new = min(self.event_count - since_count, len(self.events))
        return list(self.events)[len(self.events) - new :]

    def _page(self, name: str, kind: type[_P]) -> _P | None:
        page = self._pages.get(name)
        assert page is None or isinstance(page, kind)
        return page

    def _compare(self, page: Page) -> list[Event]:
        match page:
            case CoordinatorPage():
                return events.of_coordinator(self.coordinator, page)
            case RoundPage():
                return events.of_round(self.round, page, self.history)
            case ModelPage():
                return events.of_model(self.model, page)
            case HistoryPage():
                return events.of_history(self.history, page, self.round)
            case ClientsPage():
                return events.of_clients(self.clients, page)
            case OrdersPage():
                return events.of_orders(self.orders, page)
            case _:
                return []


def _readable(page: Page) -> Page:
    """Without control characters and endless texts: a reason must not steer or fill a terminal."""
    return msgspec.convert(_cleaned(msgspec.to_builtins(page)), type(page))


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return _printable(value)
        case list() | tuple():
            return [_cleaned(part) for part in value]
        case dict():
            return {_cleaned(key): _cleaned(part) for key, part in value.items()}
        case _:
            return value


def _printable(text: str) -> str:
    text = text[:_TEXT_LENGTH_MAX]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

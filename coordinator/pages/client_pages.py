"""Each client's page, `status/client/<id>`: said when it has changed, taken away when it is old.

    presence, answers, closed rounds ──▶ agenda ──▶ page ──▶ other than before? ──▶ broker
    pages that lie there from before ──▶   │
                                           └──▶ nothing retained any more

What one client's device tells of itself comes in its presence (`Activity`); all else is what the
coordinator knows of it. Where answers are masked, nothing here is of the client's data.
"""

import math
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from msgspec import structs

from coordinator.config import StatusSettings
from coordinator.pages import client_page
from coordinator.pages.client_page import Outs
from coordinator.pages.page_agenda import PageAgenda
from coordinator.pages.page_budget import PageBudget
from coordinator.pages.status import interval_s
from coordinator.roster import Roster
from fedmqtt import status_pages
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import Activity, Presence
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.status_pages import CLIENT_PAGES, LISTED_CLIENTS, ClientPage, PageError
from fedmqtt.topics import ClientId, RoundId, StatusPage, Topics, is_name

_LISTEN_S: Seconds = 10.0
"""What lies on the broker comes at once; it has that long to."""

_FORGET_EVERY_S: Seconds = 60.0
_DAY_S = 86_400.0


class ClientPages:
    """Of one coordinator. Nothing is said while it may not act."""

    def __init__(
        self,
        loop: EventLoop,
        link: MqttLink,
        topics: Topics,
        roster: Roster,
        settings: StatusSettings,
        may_act: Callable[[], bool],
        outs: Callable[[], Outs],
    ) -> None:
        self._loop = loop
        self._link = link
        self._filter = topics.any_client_page
        self._roster = roster
        self._settings = settings
        self._may_act = may_act
        self._outs = outs
        listed_max = LISTED_CLIENTS if settings.clients else 0
        self._agenda = PageAgenda(listed_max, settings.forget_days * _DAY_S)
        self._activities: dict[ClientId, Activity] = {}
        """Of those who are online, and tell."""
        self._heard: dict[ClientId, None] = {}
        """Who has said something that the agenda has not heard of yet; in that order."""
        self._said: dict[ClientId, ClientPage] = {}
        """The last of each, but for when it was said."""
        self._timer: Timer | None = None
        self._listening: Timer | None = None
        self._forgets_at: Seconds = 0.0
        self._budget = PageBudget(loop.now(), time.process_time())

    # What is heard

    def look(self, known: Collection[ClientId]) -> None:
        """On a new connection: pages of an earlier coordinator may lie there, or ours may not."""
        self._said.clear()
        self._agenda.all_changed()
        self._link.listen_if_allowed(self._filter, lambda _reason: None)
        pages = (StatusPage(CLIENT_PAGES + client) for client in sorted(known))
        self._link.ask_by_name(pages, once=True)
        if self._listening is not None:
            self._listening.cancel()
        self._listening = self._loop.call_in(_LISTEN_S, self._has_looked)
        self._soon()

    def _has_looked(self) -> None:
        self._link.unlisten(self._filter)
        self._forget_old()

    def found(self, name: str, payload: bytes) -> None:
        """This page lay on the broker when we came."""
        client = ClientId(name.removeprefix(CLIENT_PAGES))
        if not name.startswith(CLIENT_PAGES) or not payload:
            return
        try:
            page = status_pages.decode(name, payload)
            assert isinstance(page, ClientPage)
            seen = datetime.fromisoformat(page.last_seen).timestamp()
        except (PageError, ValueError, OverflowError):
            seen = 0.0
        if self._settings.clients and is_name(client):
            self._agenda.page_says(client, min(seen, _now()))
        else:
            self._agenda.stranger(client)
        self._soon()

    def came(
        self, client: ClientId, presence: Presence, *, retained: bool
    ) -> tuple[Presence, bool]:
        """What the machine is to hear of it; and whether it is no news to the machine, since it
        came to tell what its client does."""
        activity = presence.activity
        bare = structs.replace(presence, activity=None)
        has_changed = activity is not None and activity != self._activities.get(client)
        if not presence.online:
            self._activities.pop(client, None)
        elif activity is not None:
            self._activities[client] = activity
        is_no_news = has_changed and not retained and self._is_no_news(client, bare)
        if is_no_news:
            self.sign(client)
        elif self._settings.clients:
            # What is retained may have been said long ago.
            (self._agenda.known if retained else self._agenda.sign)(client, _now())
            self.changed([client], urgently=True)
        return bare, is_no_news

    def is_at_work(self, client: ClientId, number: RoundId) -> bool:
        """Whether it says that it does something for this round."""
        told = self._activities.get(client)
        return told is not None and bool(told.doing) and told.round == number

    def _is_no_news(self, client: ClientId, presence: Presence) -> bool:
        entry = self._roster.clients.get(client)
        if entry is None or self._roster.is_resting(client):
            return False
        return entry.online and entry.presence == presence

    def sign(self, client: ClientId) -> None:
        """It has said something. Called for each message: what follows from it can wait."""
        if self._settings.clients:
            self._heard[client] = None
            if self._timer is None:
                self._soon()

    def changed(self, clients: Collection[ClientId], *, urgently: bool = False) -> None:
        """Something else is known of them than before. `urgently`: before all that waits."""
        self._agenda.changed(clients, urgently=urgently)
        self._soon()

    # What is said

    def _soon(self) -> None:
        if self._timer is None and (self._heard or not self._agenda.is_empty):
            # As seldom as the other pages: a few at a time take less than each by itself.
            self._timer = self._loop.call_in(interval_s(self._roster), self._say_some)

    def say_all(self, *, is_over: bool) -> None:
        """The program ends: what has changed is said now, whatever it costs, or never. `is_over`:
        there is no more work in this run."""
        if self._timer is not None:
            self._timer.cancel()
        self._note_heard()
        if is_over:
            self._all_wait()
        self._say_of(*self._agenda.take(math.inf, LISTED_CLIENTS))

    def _say_some(self) -> None:
        self._timer = None
        if not self._may_act():
            return
        now = self._loop.now()
        self._note_heard()
        if now >= self._forgets_at:
            self._forget_old()
        said, gone = self._agenda.take(now, *self._budget.room(now, time.process_time()))
        began = time.thread_time()
        self._say_of(said, gone)
        self._budget.said(len(said) + len(gone), time.thread_time() - began)
        self._soon()

    def _say_of(self, said: Collection[ClientId], gone: Collection[ClientId]) -> None:
        outs, now, at = self._outs(), _now(), self._loop.now()
        for client in said:
            self._say(client, outs, now, at)
        for client in gone:
            self._activities.pop(client, None)
            self._said.pop(client, None)
            self._link.publish(StatusPage(CLIENT_PAGES + client), b"")

    def _all_wait(self) -> None:
        # That they do is said by none of them before we are gone.
        for client, told in self._activities.items():
            if told.round:
                self._activities[client] = Activity(
                    uplink_kbps=told.uplink_kbps, devices=told.devices
                )
                self._agenda.changed([client])

    def _note_heard(self) -> None:
        moment = _now()
        for client in self._heard:
            self._agenda.sign(client, moment)
        self._heard.clear()

    def _say(self, client: ClientId, outs: Outs, now: float, at: Seconds) -> None:
        """`now` and `at` are this moment, by both clocks."""
        seen, told = self._agenda.seen(client), self._activities.get(client)
        assert seen is not None
        page = client_page.page(client, self._roster, told, outs, seen=seen, now=now, at=at)
        if self._said.get(client) != page:
            self._said[client] = page
            dated = structs.replace(page, as_of=client_page.moment(now))
            self._link.publish(StatusPage(CLIENT_PAGES + client), status_pages.encode(dated))

    def _forget_old(self) -> None:
        """Who has gone for good has no page any more."""
        self._forgets_at = self._loop.now() + _FORGET_EVERY_S
        self._agenda.forget_old(_now(), self._roster.is_online)
        self._soon()


def _now() -> float:
    # For people; that a page is of somebody who has gone for good is seen on this clock alone.
    return datetime.now(UTC).timestamp()

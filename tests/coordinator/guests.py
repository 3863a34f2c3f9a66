"""A real coordinator at a real broker, and guests: clients that say whatever a test wants.

    with Room(broker.url, federation) as room:
        ann = room.guest("ann")
        with room.coordinating(config(...), weights, folder) as coordinator:
            offer = ann.offered(1)
            ann.say(update(offer, [1.0, 0.0]))
            assert ann.receipt().accepted

The coordinator has a thread and an event loop of its own; the guests share the room's, which runs
while a test waits for something. Every wait is for an event, and fails after `WITHIN_S`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from coordinator.config import Broker, Evaluation, FederationConfig, Rounds, Tuning
from coordinator.intake.trust import Trust
from coordinator.persistence import history
from coordinator.persistence.history import Record
from coordinator.service import Service
from fedmqtt import messages, status_pages
from fedmqtt.envelope import Seal
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import (
    PURPOSES,
    AnyMessage,
    Go,
    Offer,
    Open,
    Presence,
    Purpose,
    Receipt,
    TimeLeft,
    Update,
)
from fedmqtt.mqtt_link import Arrived, LinkEvent, LinkOptions, LinkUp, MqttLink, parse_broker_url
from fedmqtt.status_pages import Page, PageError
from fedmqtt.topics import (
    ROOT,
    ClientId,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    StatusPage,
    Topics,
    UpdatePart,
)
from fedmqtt.weights import Weights, layout_of
from tests.patience import WITHIN_S
from tests.programs import order

TASK = "digits"

_Told = TypeVar("_Told", Receipt, Go, TimeLeft)


def federation_config(
    url: str, name: str, rounds: dict[str, Any], **others: Any
) -> FederationConfig:
    """One round of long patience with nobody evaluating, unless said otherwise."""
    patient = {"count": 1, "over_selection": 1.0, "deadline_s": 1000.0, "retry_s": 0.0}
    fixed = {"task": TASK, "evaluation": Evaluation(every=0), "tuning": Tuning(enabled=False)}
    settings: dict[str, Any] = fixed | others
    return FederationConfig(
        name=name, broker=Broker(url=url), rounds=Rounds(**(patient | rounds)), **settings
    )


def zeros(size: int) -> Weights:
    return {"w": np.zeros(size, np.float32)}


def update(offer: Offer, change: Sequence[float], samples: int = 10, **wrong: Any) -> Update:
    """A good answer to an offer, but for what is said to be wrong."""
    fields: dict[str, Any] = {
        "run": offer.run,
        "round": offer.round,
        "base": offer.model.digest,
        "fingerprint": offer.model.fingerprint,
        "sample_count": samples,
        "codec": offer.codec,
        "method": messages.method_name(offer.training, offer.method),
        "steps": 1,
        "base_loss": abs(change[0]) if offer.method.tells_loss else None,
        "payload": memoryview(np.array(change, "<f4").tobytes()),
    }
    return Update(**(fields | wrong))


@dataclass(slots=True)
class Running:
    """A coordinator at work."""

    service: Service
    loop: EventLoop
    thread: threading.Thread
    folder: Path
    records: list[Record] = field(default_factory=list)
    """Filled when it has ended."""

    def stop(self) -> None:
        self.loop.post_from_thread(self.loop.stop)


class Guest:
    """A client made of a link and nothing else: it says what it is told to say."""

    def __init__(self, room: "Room", name: str) -> None:
        self.client = ClientId(name)
        self._room = room
        self._inbox: deque[Receipt | Go | TimeLeft] = deque()
        self._lists: deque[Open] = deque()
        self.looks: Callable[[Open], None] = self._lists.append
        """Takes each part of a list that is to be looked at alone."""
        self.offers: list[Offer | None] = []
        self.reminders: list[Offer] = []
        """What was said again to it alone."""
        options = LinkOptions(
            client_id=f"{room.federation}.{name}",
            subscribe=(room.topics.offer, room.topics.path(Inbox(self.client))),
            retry_max_s=0.2,
        )
        broker = room.url if room.seals is None else replace(room.url, seal=room.seals.of(name))
        self.link = MqttLink(room.loop, broker, room.topics, options, self._handle)
        self.link.open()
        room.wait(lambda: self.link.is_up)

    def come(
        self, *, task: str = TASK, purposes: tuple[Purpose, ...] = PURPOSES, session: str = "1"
    ) -> None:
        here = Presence(online=True, session=session, task=task, purposes=purposes, draws=True)
        self.shout(PresenceOf(self.client), messages.encode(here))

    def leave(self, session: str = "1") -> None:
        gone = Presence(online=False, session=session)
        self.shout(PresenceOf(self.client), messages.encode(gone))

    def offered(self, number: int) -> Offer:
        """The offer of this round, once it is there."""

        def found() -> Offer | None:
            open_ones = [offer for offer in self.offers if offer is not None]
            return next((offer for offer in open_ones if offer.round == number), None)

        self._room.wait(lambda: found() is not None)
        offer = found()
        assert offer is not None
        return offer

    def say(self, message: AnyMessage, part: str = "0", lane: int = 0, number: int = 1) -> None:
        """To the coordinator, as a part of the answer to round `number`."""
        self.shout(self.to(part, lane, number), messages.encode(message))

    def to(self, part: str = "0", lane: int = 0, number: int = 1) -> UpdatePart:
        return UpdatePart(lane, self.client, RoundId(number), part)

    def shout(self, address: UpdatePart | PresenceOf, payload: bytes) -> None:
        self.link.publish(address, payload)

    def receipt(self) -> Receipt:
        return self._next(Receipt)

    def go(self) -> Go:
        return self._next(Go)

    def time_left(self) -> TimeLeft:
        return self._next(TimeLeft)

    def open(self) -> Open:
        """The next part of a list, as keyholders are sent them."""
        self._room.wait(lambda: bool(self._lists))
        return self._lists.popleft()

    @property
    def has_list(self) -> bool:
        return bool(self._lists)

    @property
    def has_mail(self) -> bool:
        return bool(self._inbox)

    def _next(self, kind: type[_Told]) -> _Told:
        self._room.wait(lambda: bool(self._inbox))
        message = self._inbox.popleft()
        while isinstance(message, Go | TimeLeft) and not isinstance(message, kind):
            # On a slow machine it is asked again for what is on its way; and a coordinator that
            # has come back tells everybody how much time is left.
            self._room.wait(lambda: bool(self._inbox))
            message = self._inbox.popleft()
        assert isinstance(message, kind), message
        return message

    def _handle(self, event: LinkEvent) -> None:
        match event:
            case Arrived(OfferBoard(), payload):
                self.offers.append(messages.read_offer(payload) if payload else None)
            case Arrived(Inbox(), payload):
                message = messages.read_to_client(payload)
                if isinstance(message, Open) and message.looks:
                    self.looks(message)
                elif isinstance(message, Open):
                    self._lists.append(message)
                elif isinstance(message, Offer):
                    self.reminders.append(message)
                else:
                    self._inbox.append(message)
            case _:
                return


class Seals(Protocol):
    """By which all in a room sign."""

    @property
    def coordinator(self) -> Seal: ...

    @property
    def watcher(self) -> Seal: ...

    def of(self, name: str) -> Seal:
        """A guest's."""


class Room:
    """Guests, and a watcher who sees every message of the federation, or what it `watches`."""

    def __init__(
        self, url: str, federation: str, watches: str = "#", seals: Seals | None = None
    ) -> None:
        self.loop = EventLoop()
        self.url = parse_broker_url(url)
        self.seals = seals
        self.federation = federation
        self.topics = Topics(federation)
        self.traffic: list[Arrived] = []
        self.watcher_came = 0
        self._pages: dict[str, Page] = {}
        self._guests: list[Guest] = []
        options = LinkOptions(
            client_id=f"{federation}..watcher",
            subscribe=(f"{ROOT}/{federation}/{watches}",),
            retry_max_s=0.2,
        )
        broker = self.url if seals is None else replace(self.url, seal=seals.watcher)
        self._watcher = MqttLink(self.loop, broker, self.topics, options, self._watch)

    def __enter__(self) -> Self:
        self._watcher.open()
        self.wait(lambda: self.watcher_came > 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for guest in self._guests:
            guest.link.close()
        self._watcher.close()
        self.loop.close()

    def guest(self, name: str) -> Guest:
        """One that is connected, and has not said that it is there."""
        guest = Guest(self, name)
        self._guests.append(guest)
        return guest

    def guests(self, *names: str, purposes: tuple[Purpose, ...] = PURPOSES) -> list[Guest]:
        """Some that are there and willing."""
        guests = [self.guest(name) for name in names]
        for guest in guests:
            guest.come(purposes=purposes)
        return guests

    @contextmanager
    def coordinating(
        self,
        config: FederationConfig,
        weights: Weights | None,
        folder: Path,
        on_round: Callable[[Running], None] = lambda running: None,
        trust: Trust | None = None,
    ) -> Iterator[Running]:
        """A coordinator for as long as the block lasts, or until its rounds are done.

        Without `weights` it goes on with the run in the folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        loop = EventLoop()
        layout = layout_of(weights) if weights is not None else None
        initial = (layout, layout.flatten(weights)) if layout and weights is not None else None
        seal = self.seals.coordinator if self.seals is not None else None
        broker = replace(parse_broker_url(config.broker.url), seal=seal)
        service = Service(
            loop,
            config,
            initial,
            folder,
            lambda _record: on_round(running),
            broker=broker,
            trust=trust,
        )
        running = Running(service, loop, threading.Thread(target=service.run), folder)
        running.thread.start()
        try:
            yield running
        finally:
            running.stop()
            running.thread.join(WITHIN_S)
            assert not running.thread.is_alive()
            loop.close()
            if (folder / "history.jsonl").exists():
                running.records += history.read(folder / "history.jsonl")

    def ended(self, running: Running) -> None:
        """Wait until the coordinator has run all its rounds and gone."""
        self.wait(lambda: not running.thread.is_alive())

    def wait(self, holds: Callable[[], bool]) -> None:
        deadline = self.loop.now() + WITHIN_S
        while not holds():
            assert self.loop.now() < deadline, "it did not happen in time"
            self.loop.run_once(wait_max_s=0.05)

    def page(self, name: str, holds: Callable[[Any], bool] = lambda page: True) -> Any:
        """The status page of this name, once it is as it should be."""
        self.wait(lambda: name in self._pages and holds(self._pages[name]))
        return self._pages[name]

    def publish(self, page: StatusPage, payload: bytes) -> None:
        """In the coordinator's place."""
        self._watcher.publish(page, payload)

    @property
    def page_names(self) -> set[str]:
        """Of the status pages that lie there."""
        return set(self._pages)

    def forget(self) -> None:
        """Everything the watcher saw so far."""
        self.traffic.clear()
        self._pages.clear()

    @property
    def retained_model_bytes(self) -> int:
        """Of all chunks that are on the broker now, as the watcher saw them come and go."""
        now = {one.address: one.payload for one in self.model_chunks()}
        return sum(map(len, now.values()))

    def model_chunks(self) -> list[Arrived]:
        return [one for one in self.traffic if isinstance(one.address, ModelChunk)]

    def _keep(self, name: str, payload: bytes) -> None:
        """Bytes that are no page are those of a test that publishes some."""
        self._pages.pop(name, None)
        if payload:
            with suppress(PageError):
                self._pages[name] = status_pages.decode(name, payload)

    def _watch(self, event: LinkEvent) -> None:
        match event:
            case LinkUp():
                self.watcher_came += 1
            case Arrived(StatusPage(name), payload):
                self.traffic.append(event)
                self._keep(name, payload)
            case Arrived():
                self.traffic.append(event)
            case _:
                return


def roll_back(room: Room, number: int) -> None:
    """Without accounts, whoever reaches the broker is the operator."""
    order("rollback", str(number), "--broker", str(room.url), "--federation", room.federation)

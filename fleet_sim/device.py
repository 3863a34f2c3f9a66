"""A client's shell in a simulated world: its machine, its link, its disk.

    session.step ──effects──▶ broker, disk, clock; and, as the kind of device will have it,
                              downloads, training, coming and going

`storm_device.py` does all of it in drawn weather with everything that can go wrong;
`lab_device.py` as a fleet's description says.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from edge_client import session
from fedmqtt import chunks, pace
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import (
    Chunk,
    Evaluation,
    Go,
    ModelRef,
    Offer,
    Presence,
    Purpose,
    Receipt,
    TimeLeft,
    Update,
)
from fedmqtt.topics import Address, ClientId, PresenceOf, RoundId, RunId, UpdatePart
from fleet_sim.broker import Message
from fleet_sim.promises import check_client
from fleet_sim.scene import Scene

Step = Callable[
    [session.Session, session.Event, session.Rules], tuple[session.Session, list[session.Effect]]
]


class Device(ABC):
    __slots__ = (
        "_alarm_at", "_connections", "_is_off", "_job", "_life", "_powered", "_scene", "_spread_s",
        "_step", "disk", "rules", "state",
    )  # fmt: skip

    def __init__(self, scene: Scene, rules: session.Rules, step: Step) -> None:
        self.rules = rules
        self.state = session.Session()
        self.disk: dict[session.Answer, Update | Evaluation] = {}
        self._scene = scene
        self._step = step
        self._alarm_at: Seconds | None = None
        self._connections = 0
        self._spread_s: Seconds = 0.0
        """As the last offer asks: who lost its link returns within so long."""
        self._life = 0
        """Counts departures and returns, so that those planned before a change do not happen."""
        self._powered = 0
        """Counts losses of power: what was being done at one is not gone on with."""
        self._is_off = False
        self._job = 0
        """Counts fetches and trainings, and their ends: what began under another number is over."""

    @property
    def name(self) -> ClientId:
        return self.rules.client

    # What kinds of devices differ in

    @abstractmethod
    def begin(self) -> None:
        """The program starts."""

    @abstractmethod
    def _fetch(self, run: RunId, round_id: RoundId, model: ModelRef) -> None:
        """Tell `ModelFetched` or `Failed` later."""

    @abstractmethod
    def _work(self, offer: Offer, purpose: Purpose) -> None:
        """Tell `Finished` or `Failed` later."""

    @abstractmethod
    def _come(self, life: int) -> None:
        """Connect, unless this was planned in another life."""

    def _stop(self) -> None:
        """Give up the fetch or the training that goes on."""
        self._job += 1

    @abstractmethod
    def _draw(self) -> float:
        """By chance, uniform in [0, 1)."""

    @abstractmethod
    def _remembers(self, answer: session.Answer) -> bool:
        """Whether something is to be remembered with this answer."""

    @abstractmethod
    def _settle(self, forget: session.Forget) -> None:
        """What it remembers with this answer is committed, or not."""

    def _has_lost_power(self) -> bool:
        """At a moment where it matters."""
        return False

    # The link

    def _later(self, delay: Seconds, do: Callable[[int], None]) -> None:
        self._scene.clock.after(delay, do, self._life)

    def _connect(self) -> str:
        """A new connection's token. `Connected` is the caller's to tell."""
        self._connections += 1
        token = f"{self.name}-{self._connections}"
        will = Presence(online=False, session=token)
        self._scene.broker.connect(self.name, self._receive, will)
        return token

    def _lose_link(self, *, politely: bool) -> None:
        self._hang_up(politely=politely)
        self.tell(session.Disconnected(self._scene.now))

    def _hang_up(self, *, politely: bool) -> None:
        if politely:
            goodbye = Presence(online=False, session=self.state.token)
            self._scene.broker.publish(self.name, PresenceOf(self.name), goodbye)
        self._scene.broker.disconnect(self.name, politely=politely)

    def _leave(self, back_at: Seconds) -> None:
        """As the machine orders: it need not be told that the link is down."""
        self._life += 1
        self._hang_up(politely=True)
        away_s = max(0.0, back_at - self._scene.now)
        back_in_s = pace.back_in_s(self._draw(), away_s, self._spread_s)
        self._later(back_in_s, self._come)

    def _start(self) -> None:
        """Its program has, and finds what is on the disk."""
        answers = tuple(self.disk)
        remembering = tuple(filter(self._remembers, answers))
        self.tell(session.Started(self._scene.now, answers, remembering, told=self.state.told))

    def _forget_all(self) -> None:
        """As when its power is lost: nothing is left but the disk."""
        self.state = session.Session(told=self.state.told)
        self._alarm_at = None
        self._job += 1

    # The machine

    def _receive(
        self, address: Address, message: Message, left: Seconds | None, retained: bool
    ) -> None:
        now = self._scene.now
        match message:
            case Offer():
                self._spread_s = message.spread_s
                self.tell(session.Offered(now, message, left, retained))
            case None:
                self.tell(session.OfferWithdrawn(now))
            case Presence():
                self.tell(session.PresenceSeen(now, message))
            case Receipt() | Go() | TimeLeft():
                self.tell(session.Received(now, message))
            case _:
                raise AssertionError((address, message))

    def tell(self, event: session.Event) -> None:
        before, powered = self.state, self._powered
        if isinstance(event, session.Woke):
            self._alarm_at = None
        after, effects = self._step(before, event, self.rules)
        self.state = after
        for effect in effects:
            if isinstance(effect, WakeAt):
                self._alarm_at = effect.at
        check_client(self.name, before, event, after, effects, self._alarm_at)
        for effect in effects:
            if self._has_lost_power():
                return
            self._perform(effect)
            if powered != self._powered:
                return

    def _perform(self, effect: session.Effect) -> None:
        scene = self._scene
        match effect:
            case Publish(to, message):
                scene.broker.publish(self.name, to, message)
            case WakeAt(at):
                scene.clock.at(at, self._ring, at)
            case session.Fetch(run, round_id, model):
                self._fetch(run, round_id, model)
            case session.Work(offer, purpose):
                self._work(offer, purpose)
            case session.Stop():
                self._stop()
            case session.Send(answer, lane):
                where = UpdatePart(lane, self.name, answer.round, "0")
                scene.broker.publish(self.name, where, self.disk[answer])
            case session.SendChunks(answer, lane, ranges, chunk_bytes):
                self._send_chunks(answer, lane, ranges, chunk_bytes)
            case session.Forget(answer):
                self._settle(effect)
                del self.disk[answer]
            case session.Leave(back_at):
                self._leave(back_at)
            case Note():
                pass

    def _ring(self, alarm_at: Seconds) -> None:
        if alarm_at == self._alarm_at:
            self.tell(session.Woke(self._scene.now))

    # Answers

    def _put(self, answer: session.Answer, content: Update | Evaluation) -> None:
        self.disk[answer] = self._scene.contents[self.name, answer.digest] = content

    def _finish(self, answer: session.Answer) -> None:
        self.tell(session.Finished(self._scene.now, answer, self._remembers(answer)))

    def _send_chunks(
        self, answer: session.Answer, lane: int, ranges: chunks.Ranges, chunk_bytes: int
    ) -> None:
        for index in chunks.numbers(ranges, chunks.count(answer.size_bytes, chunk_bytes)):
            start, stop = chunks.span(index, answer.size_bytes, chunk_bytes)
            chunk = Chunk(digest=answer.digest, data=memoryview(bytes(stop - start)))
            where = UpdatePart(lane, self.name, answer.round, str(index))
            self._scene.broker.publish(self.name, where, chunk)

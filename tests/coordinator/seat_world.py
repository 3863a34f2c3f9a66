"""Three coordinators, a client and the broker between them, on a clock of their own.

    Process ──up──▶ Broker ──down──▶ Process, Client

Each link keeps its order and has delays that the test sets; what is on its way when one end closes
still arrives at the other. A broker has one order for all it receives, keeps what is retained, says
wills when it notices an end, and can come back with all that it kept, with an old copy, or with
nothing. A process can be stopped like SIGSTOP does, and finds what has come meanwhile when it goes
on. It acts as a service does: it publishes an offer every other second while it may.

The promises are checked as things happen. `settle` calms the weather and checks what must be then.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from coordinator import leadership
from coordinator.leadership import Rules
from fedmqtt import messages
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import AmongCoordinators, Claim, Seat
from fedmqtt.topics import CoordinatorSeat, SeatClaim

OFFER_EVERY_S = 2.0
RECONNECT_S = 1.0
KEEPALIVE_S = 20.0
"""After so long the broker misses who was stopped or cut off."""
UNNOTICED_S = 6.0
"""After so long a process finds that the broker has closed."""
SLOWEST_S = 8.0
CALM_S = 0.02

Memory = Literal["all", "old", "none"]
Side = Literal["process", "broker", "both"]


@dataclass(frozen=True)
class BoardOffer:
    epoch: int
    token: str


@dataclass(frozen=True)
class Order:
    """What MQTT itself says."""

    what: Literal["connect", "subscribe", "disconnect"]


Word = AmongCoordinators | BoardOffer | Order | None
Topic = Literal["seat", "claim", "offer", ""]


class Clock:
    def __init__(self) -> None:
        self.now: Seconds = 0.0
        self._count = 0
        self._heap: list[tuple[Seconds, int, Callable[[], None]]] = []

    def at(self, moment: Seconds, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(moment, self.now), self._count, do))

    def run(self, until: Seconds) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, do = heapq.heappop(self._heap)
            do()
        self.now = until


@dataclass
class Machine:
    """What outlives a process."""

    run: str
    up_s: Seconds = CALM_S
    down_s: Seconds = CALM_S


class Link:
    """One connection. `near` is the process's end, `far` the broker's."""

    def __init__(self, world: "World", process: "Process", will: Publish) -> None:
        self.world, self.process, self.will = world, process, will
        self.life = world.life
        self.near, self.far, self.subscribed = True, False, False
        self._up_at = self._down_at = 0.0

    def send(self, topic: Topic, word: Word) -> None:
        if self.near:
            self._up_at = max(self._up_at, self.world.clock.now + self.process.machine.up_s)
            self.world.clock.at(self._up_at, lambda: self.world.receive(self, topic, word))

    def deliver(self, topic: Topic, word: Word) -> None:
        if self.far:
            self._down_at = max(self._down_at, self.world.clock.now + self.process.machine.down_s)
            self.world.clock.at(self._down_at, lambda: self.process.arrive(self, topic, word))


class Process:
    """One start of a coordinator: the shell around the machine."""

    def __init__(self, world: "World", machine: Machine, token: str, *, standby: bool) -> None:
        self.world, self.machine = world, machine
        self.rules = Rules(
            token=token,
            run=machine.run,
            where=token,
            standby=standby,
            owns_run=True,
            epoch_known=world.ledgers[machine.run],
        )
        self.state = leadership.begin()
        self.is_running, self.is_stopped, self.stopped_since = True, False, 0.0
        self.ended_at: Seconds | None = None
        self.link: Link | None = None
        self._alarm: Seconds | None = None
        self._waiting: list[Callable[[], None]] = []
        self._connect()
        self._tick()

    @property
    def may_act(self) -> bool:
        now = self.world.clock.now
        is_awake = self.is_running and not self.is_stopped
        return is_awake and leadership.may_act(self.state, now, self.rules)

    # What happens to it

    def stop(self) -> None:
        self.is_stopped, self.stopped_since = True, self.world.clock.now
        since = self.stopped_since
        self.world.clock.at(since + KEEPALIVE_S, lambda: self._miss(since))

    def go_on(self, *, arrivals_first: bool) -> None:
        self.is_stopped = False
        waiting, self._waiting = self._waiting, []
        if not arrivals_first:
            self._ring()
        for do in waiting:
            do()
        self._ring()

    def die(self, *, is_noticed: bool) -> None:
        self._close()
        link = self.link
        if link is not None:
            link.near = False
            delay = 0.0 if is_noticed else KEEPALIVE_S
            self.world.clock.at(self.world.clock.now + delay, lambda: self.world.lose(link))

    def end(self) -> None:
        if self.link is not None:
            for said in leadership.last_words(self.state, self.world.clock.now, self.rules):
                self._publish(said)
            self.link.send("", Order("disconnect"))
            self.link.near = False
        self._close()

    def arrive(self, link: Link, topic: Topic, word: Word) -> None:
        self._do(lambda: self._read(link, topic, word))

    def find_closed(self, link: Link) -> None:
        self._do(lambda: self._lose(link))

    # What it does

    def _do(self, do: Callable[[], None]) -> None:
        if self.is_stopped:
            self._waiting.append(do)
        elif self.is_running:
            do()

    def _read(self, link: Link, topic: Topic, word: Word) -> None:
        if link is not self.link or not link.near or not self.is_running:
            return
        now = self.world.clock.now
        match topic, word:
            case "", Order("connect"):
                link.send("", Order("subscribe"))
                self._tell(leadership.Connected(now))
            case "seat", Seat() | None:
                self._tell(leadership.SeatSeen(now, word))
            case "claim", Claim() | Seat():
                self._tell(leadership.ClaimSeen(now, word))
            case "offer", BoardOffer(epoch):
                self._tell(leadership.OfferSeen(now, epoch))
            case _:
                raise AssertionError((topic, word))

    def _tell(self, event: leadership.Event) -> None:
        if isinstance(event, leadership.Woke):
            self._alarm = None
        before = self.state
        self.state, effects = leadership.step(before, event, self.rules)
        assert not (isinstance(before.phase, leadership.Out) and effects)
        for effect in effects:
            self._perform(effect)
        if not isinstance(self.state.phase, leadership.Away | leadership.Out):
            assert self._alarm is not None
            assert self._alarm > event.at or not isinstance(event, leadership.Woke)

    def _perform(self, effect: leadership.Effect) -> None:
        match effect:
            case Publish():
                self._publish(effect)
            case WakeAt(at):
                self._alarm = at
                self.world.clock.at(at, lambda: self._do(self._ring))
            case leadership.Take(epoch):
                assert epoch > self.world.ledgers[self.rules.run]
                self.world.ledgers[self.rules.run] = epoch
                self.world.taken_at = self.world.clock.now
                self._offer()
            case leadership.Confirmed() | leadership.RepeatOffer():
                assert self.may_act
                self._offer()
            case leadership.Refuse(by) | leadership.Deposed(by):
                assert isinstance(effect, leadership.Deposed) == (self.state.held > 0)
                self.world.check_word_of_living(by)
                self.end()
            case Note():
                pass

    def _ring(self) -> None:
        if self.is_running and self._alarm is not None and self._alarm <= self.world.clock.now:
            self._tell(leadership.Woke(self.world.clock.now))

    def _tick(self) -> None:
        if self.is_running:
            self.world.clock.at(self.world.clock.now + OFFER_EVERY_S, lambda: self._do(self._tick))
            self._offer()

    def _offer(self) -> None:
        if self.may_act and self.link is not None:
            epoch, token = self.state.held, self.rules.token
            assert self.world.acted.setdefault(epoch, token) == token, "two act in one epoch"
            self.link.send("offer", BoardOffer(epoch, token))

    def _publish(self, effect: Publish) -> None:
        message = effect.message
        assert isinstance(message, Claim | Seat)
        assert messages.read_among_coordinators(messages.encode(message)) == message
        assert self.link is not None
        match effect.to:
            case CoordinatorSeat():
                self.link.send("seat", message)
            case SeatClaim():
                self.link.send("claim", message)
            case _:
                raise AssertionError(effect.to)

    def _connect(self) -> None:
        if self.is_running:
            self.link = Link(self.world, self, leadership.will(self.state, self.rules))
            self.link.send("", Order("connect"))

    def _lose(self, link: Link) -> None:
        if link is self.link and link.near and self.is_running:
            link.near = False
            self._tell(leadership.Disconnected(self.world.clock.now))
            self.world.clock.at(self.world.clock.now + RECONNECT_S, lambda: self._do(self._connect))

    def _miss(self, since: Seconds) -> None:
        if self.is_stopped and self.stopped_since == since and self.link is not None:
            self.world.lose(self.link)

    def _close(self) -> None:
        self.is_running = self.is_stopped = False
        self.ended_at = self.world.clock.now


class Client:
    """Sees the offer board, and ignores offers that are older than one it has seen."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.connect()

    def connect(self) -> None:
        self.newest: BoardOffer | None = None
        self.at: Seconds = 0.0
        if self._world.board is not None:
            self.see(self._world.board)

    def see(self, offer: BoardOffer) -> None:
        if self.newest is None or offer.epoch >= self.newest.epoch:
            self.newest, self.at = offer, self._world.clock.now


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.life = 0
        self.seat: Seat | None = None
        self.board: BoardOffer | None = None
        self._saved: tuple[Seat | None, BoardOffer | None] = (None, None)
        self._links: list[Link] = []
        self.acted: dict[int, str] = {}
        self.is_unheard = False
        """In the end, clients wait for an epoch that nobody remembers, until they reconnect."""
        self.taken_at: Seconds = 0.0
        self.died_at: Seconds = -1e9
        self.machines = [Machine("r0"), Machine("r1"), Machine("r2")]
        self.ledgers: dict[str, int] = defaultdict(int)
        """The epoch that each run's ledger keeps. Folders lie where every machine reaches them."""
        self.processes: dict[int, Process] = {}
        self._all: dict[str, Process] = {}
        self.client = Client(self)

    # The weather

    def start(self, place: int, *, standby: bool, run: str | None = None) -> None:
        """`run`: whose folder it opens; None is the one it had before. Its lock may be held."""
        machine = self.machines[place]
        run = run or machine.run
        if place in self.running or any(p.rules.run == run for p in self.running.values()):
            return
        machine.run = run
        token = f"{place}.{len(self._all)}"
        process = Process(self, machine, token, standby=standby)
        self.processes[place] = self._all[token] = process

    def stop_or_go_on(self, place: int, *, arrivals_first: bool) -> None:
        process = self.running.get(place)
        if process is not None and process.is_stopped:
            process.go_on(arrivals_first=arrivals_first)
        elif process is not None:
            process.stop()

    def slow(self, place: int, up_s: Seconds, down_s: Seconds) -> None:
        self.machines[place].up_s, self.machines[place].down_s = up_s, down_s

    def wait(self, span: Seconds) -> None:
        self.clock.run(self.clock.now + span)

    @property
    def running(self) -> dict[int, Process]:
        return {place: p for place, p in self.processes.items() if p.is_running}

    def kill(self, place: int, *, is_noticed: bool) -> None:
        if (process := self.running.get(place)) is not None:
            self.died_at = self.clock.now
            process.die(is_noticed=is_noticed)

    def end(self, place: int) -> None:
        process = self.running.get(place)
        if process is not None and not process.is_stopped:
            self.died_at = self.clock.now
            process.end()

    def cut(self, place: int, side: Side) -> None:
        process = self.running.get(place)
        if process is None or process.link is None:
            return
        link, now = process.link, self.clock.now
        near_in_s = UNNOTICED_S if side == "broker" else 0.0
        far_in_s = KEEPALIVE_S if side == "process" else 0.0
        self.clock.at(now + near_in_s, lambda: process.find_closed(link))
        self.clock.at(now + far_in_s, lambda: self.lose(link))

    def save(self) -> None:
        self._saved = (self.seat, self.board)

    def restart_broker(self, memory: Memory) -> None:
        self.life += 1
        match memory:
            case "all":
                pass
            case "old":
                self.seat, self.board = self._saved
            case "none":
                self.seat = self.board = None
        links, self._links = self._links, []
        for link in links:
            link.far = False
            link.process.find_closed(link)
        self.client.connect()

    def clear_seat(self) -> None:
        """A person does."""
        self._route("seat", None)

    # The broker

    def receive(self, link: Link, topic: Topic, word: Word) -> None:
        if isinstance(word, Order) and word.what == "connect":
            self._accept(link)
        elif link.far:
            match word:
                case Order("subscribe"):
                    link.subscribed = True
                    if self.seat is not None:
                        link.deliver("seat", self.seat)
                    if self.board is not None:
                        link.deliver("offer", self.board)
                case Order("disconnect"):
                    self._forget(link)
                case _:
                    self._route(topic, word)

    def lose(self, link: Link) -> None:
        """Notice that the connection has broken: say the will."""
        if link.far:
            self._forget(link)
            assert isinstance(link.will.to, SeatClaim) and isinstance(link.will.message, Seat)
            self._route("claim", link.will.message)
            self.clock.at(self.clock.now + UNNOTICED_S, lambda: link.process.find_closed(link))

    def _accept(self, link: Link) -> None:
        if link.life != self.life:
            link.process.find_closed(link)
            return
        for other in list(self._links):
            if other.process is link.process:
                # One client id: the broker closes the old connection.
                self.lose(other)
        link.far = True
        self._links.append(link)
        link.deliver("", Order("connect"))

    def _forget(self, link: Link) -> None:
        link.far = False
        self._links.remove(link)

    def _route(self, topic: Topic, word: Word) -> None:
        if topic == "seat":
            assert isinstance(word, Seat | None)
            self.seat = word
        if topic == "offer":
            assert isinstance(word, BoardOffer)
            self.board = word
            self.client.see(word)
        for link in list(self._links):
            if link.subscribed:
                link.deliver(topic, word)

    # The promises

    def check_word_of_living(self, by: Seat) -> None:
        """Nobody ends because of one that has long been dead."""
        ended_at = self._all[by.token].ended_at
        assert ended_at is None or self.clock.now - ended_at < 4 * SLOWEST_S

    def settle(self) -> None:
        """Once all is calm, there is one, clients hear it, and it stays."""
        for machine in self.machines:
            machine.up_s = machine.down_s = CALM_S
        for process in self.running.values():
            if process.is_stopped:
                process.go_on(arrivals_first=False)
        was_anybody_there = bool(self.running) and self.clock.now - self.died_at > 60.0
        self.clock.run(self.clock.now + 120.0)
        assert self.running or not was_anybody_there, "the last one has put the light out"
        if not self.running:
            self.start(0, standby=False)
            self.clock.run(self.clock.now + 30.0)
        actors = [process for process in self.running.values() if process.may_act]
        assert len(actors) == 1, f"{len(actors)} act"
        assert self.clock.now - self.taken_at > 10.0, "it does not come to rest"
        for process in self.running.values():
            assert process.may_act or process.rules.standby
        self._check_heard(actors[0])

    def _check_heard(self, actor: Process) -> None:
        newest = self.client.newest
        assert newest is not None
        if newest.token != actor.rules.token:
            # Only an epoch that the broker and all who knew it have lost can be in the way.
            known = max(process.state.acted for process in self.running.values())
            assert newest.epoch > known, "nobody is heard"
            self.is_unheard = True
        else:
            assert self.clock.now - self.client.at <= OFFER_EVERY_S + 2 * CALM_S

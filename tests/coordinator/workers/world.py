"""One round with workers, in memory: the real desk, machines and workers, and a broker that a test
orders about. It delivers when it is told to, message by message, and loses what it is told to lose.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coordinator import deciding, rounds
from coordinator.config import FederationConfig
from coordinator.pacing import Bounds
from coordinator.roster import Roster
from coordinator.rounds import Named
from coordinator.sums.answers import Answers
from coordinator.workers import lanes
from coordinator.workers.desk import Desk, Now
from coordinator.workers.program import PROGRAM, Worker
from fedmqtt import messages
from fedmqtt.effects import Publish, Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Claimed, ModelRef, Offer, Passed, Presence, Receipt, Sum, Update
from fedmqtt.mqtt_link import (
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    Part,
    parse_broker_url,
)
from fedmqtt.topics import (
    ClientId,
    Digest,
    Inbox,
    LanesOf,
    OfferBoard,
    RoundId,
    RunId,
    Topics,
    UpdatePart,
    WorkOf,
    lane_of,
)
from tests.updates import update

SIZE = 5
ANSWER_BYTES_MAX = 5000
RUN, ROUND = RunId("r.1"), RoundId(1)
MODEL = ModelRef(digest=Digest("0" * 64), size_bytes=8, chunk_bytes=1024, fingerprint="f")
_LIMITS = Bounds(
    over_selection=1.0,
    over_selection_min=1.0,
    over_selection_max=1.0,
    deadline_s=1e6,
    deadline_min_s=1e6,
    deadline_max_s=1e6,
)


class Turns(EventLoop):
    """Time passes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.at: Seconds = 0.0

    def now(self) -> Seconds:
        return self.at


@dataclass
class Wire:
    """One worker's way to the broker and back."""

    name: ClientId
    options: LinkOptions
    handle: Callable[[LinkEvent], None]
    up: deque[bytes] = field(default_factory=deque)
    """To the coordinator, in their order."""
    down: deque[bytes] = field(default_factory=deque)
    lanes: set[str] = field(default_factory=set)
    token: str = ""
    largest: int = 0
    """Bytes in one message to the coordinator, up to now."""

    def open(self) -> None:
        pass

    def close(self, last_words: Iterable[Publish] = ()) -> None:
        for words in last_words:
            self.perform(words)
        self.token = ""

    def perform(self, effect: Publish) -> None:
        assert effect.to == WorkOf(self.name) and effect.message is not None
        if self.token:
            self.up.append(messages.encode(effect.message))
            self.largest = max(self.largest, len(self.up[-1]))

    def stream(self, parts: Iterator[Part]) -> None:
        for part in parts:
            self.up.append(part.payload)

    def listen(self, *filters: str) -> None:
        self.lanes.update(filters)

    def unlisten(self, *filters: str) -> None:
        self.lanes.difference_update(filters)

    def connect(self, token: str, packet_bytes_max: int | None = None) -> None:
        self.token = token
        self.lanes.clear()
        self.handle(LinkUp(token, packet_bytes_max, "MQTT 5"))

    def cut(self) -> None:
        """Nothing of ours is said any more, but the will; and nothing comes."""
        assert self.options.will is not None
        said = self.options.will(self.token)
        assert said is not None and said.message is not None
        will = said.message
        self.down.clear()
        self.token = ""
        self.handle(LinkDown("cut", 1.0))
        self.up.append(messages.encode(will))


class World:
    """`clients` answer one round, in which all must."""

    def __init__(self, folder: Path, config: FederationConfig, clients: list[ClientId]) -> None:
        self.loop = Turns()
        self._folder = folder
        self._config = config
        self._topics = Topics(config.name)
        self._lanes = config.workers.lanes
        self.answers = Answers(config, SIZE, len(clients), folder)
        self.answers.begin(len(clients), ROUND)
        self._rules = rounds.Rules(
            select=lambda candidates, count, *_: tuple(candidates[:count]),
            rounds=1,
            cohort=len(clients),
            quorum=len(clients),
            clients_min=len(clients),
            evaluate_every=0,
            pace=_LIMITS,
            run=RUN,
            lanes=self._lanes,
        )
        self._roster = Roster("")
        self.desk = Desk(
            self.loop,
            lanes.Rules(
                lanes=self._lanes,
                terms=config.workers.terms,
                hand_over_s=config.workers.hand_over_s,
                at_once=config.workers.at_once,
                name="ab",
            ),
            deciding.digest(config),
            PROGRAM,
            folder / "sums",
            ("full",),
            say=self._say,
            listen=self._listen,
            now=lambda: Now(
                run=RUN,
                round=ROUND,
                size=SIZE,
                shapes=((SIZE,),),
                bits=self.answers.bits,
                answer_bytes_max=ANSWER_BYTES_MAX,
                message_bytes_max=self.message_bytes_max,
                limits=config.limits,
            ),
            claim=self._on_claim,
            passed=lambda worker, passed: self.passed.append((worker, passed)),
            summed=self._on_sum,
            lose=self._on_lost,
            changed=lambda: self.standings.append(self.desk.standing()),
        )
        self._own = self.desk.own
        self.message_bytes_max = 100_000
        """To a worker."""
        self.passed: list[tuple[ClientId, Passed]] = []
        """What else clients said, and by which worker."""
        self.largest = 0
        """Bytes in one message to a worker, up to now."""
        self.told: list[Publish] = []
        """What workers had said to clients."""
        self.standings: list[dict[ClientId, str]] = []
        """What people were told, whenever it changed."""
        self.wires: dict[ClientId, Wire] = {}
        self.workers: dict[ClientId, Worker] = {}
        self._dead: list[Wire] = []
        self._tokens = 0
        self.updates: dict[ClientId, Update] = {}
        self.receipts: list[ClientId] = []
        self.refused: dict[ClientId, str] = {}
        self.by_workers = 0
        """Answers in their sums."""
        self.counted: list[ClientId] = []
        self.closed = False
        self._claim: Claimed | None = None
        self._state: rounds.State = rounds.begin(self._rules)
        for client in clients:
            here = Presence(online=True, session="1", purposes=("train",))
            self._happen(rounds.ClientCame(0.0, client, here))
        self._happen(rounds.ModelReady(0.0, MODEL))

    # What a test orders

    def start(self, name: str, config: FederationConfig | None = None) -> None:
        """A worker comes, or comes back after it was killed: with nothing of before."""
        worker = ClientId(name)
        folder = self._folder / f"{name}-{self._tokens}"

        def make(
            _loop: EventLoop,
            _broker: BrokerUrl,
            _topics: Topics,
            options: LinkOptions,
            handle: Callable[[LinkEvent], None],
        ) -> Wire:
            self.wires[worker] = Wire(worker, options, handle)
            return self.wires[worker]

        broker = parse_broker_url("mqtt://localhost")
        made = Worker(self.loop, config or self._config, broker, worker, folder, make_link=make)
        self.workers[worker] = made
        made.start()
        self.connect(worker)

    def connect(self, worker: ClientId, packet_bytes_max: int | None = None) -> None:
        self._tokens += 1
        self.wires[worker].connect(f"{self._tokens:016x}", packet_bytes_max)

    def throw_out(self, worker: ClientId) -> Wire:
        """The broker ends its connection, as another of that name comes; and speaks its will."""
        wire = self.wires.pop(worker)
        wire.cut()
        self._dead.append(wire)
        return wire

    def let_in(self, wire: Wire) -> None:
        """It comes back."""
        self._dead.remove(wire)
        self.wires[wire.name] = wire
        self.connect(wire.name)

    def kill(self, worker: ClientId) -> None:
        """What it said is with the broker, and its will behind that."""
        del self.workers[worker]
        self.throw_out(worker)

    def send(self, client: ClientId, sent: Update) -> None:
        """To whoever listens to the client's lane. A copy is handed to each."""
        self.updates[client] = sent
        encoded = messages.encode(sent)
        self.shout(client, encoded)
        if lane_of(client, self._lanes) in self._own:
            self._on_own(client, encoded)

    def shout(self, client: ClientId, payload: bytes, part: str = "0") -> None:
        """To whatever worker listens to the client's lane."""
        lane = lane_of(client, self._lanes)
        for wire in list(self.wires.values()):
            if self._topics.lane(lane) in wire.lanes:
                wire.handle(Arrived(UpdatePart(lane, client, ROUND, part), payload))

    def owing(self) -> list[ClientId]:
        """Who has no receipt."""
        return sorted(self.updates.keys() - set(self.receipts))

    def waiting(self) -> list[tuple[Wire, deque[bytes]]]:
        """Queues in which something waits."""
        wires = [*self.wires.values(), *self._dead]
        return [(wire, queue) for wire in wires for queue in (wire.up, wire.down) if queue]

    def deliver(self, wire: Wire, queue: deque[bytes]) -> None:
        payload = queue.popleft()
        if queue is wire.up:
            self.desk.came(wire.name, payload)
        elif wire.token:
            wire.handle(Arrived(LanesOf(wire.name), payload))

    def turn(self) -> None:
        """What was posted, and what is due."""
        self.loop.run_once(0.0)

    def settle(self) -> None:
        """Until nothing is on its way."""
        for _ in range(10_000):
            self.turn()
            waiting = self.waiting()
            if not waiting:
                return
            self.deliver(*waiting[0])
        raise AssertionError("there is no end to it")

    def pass_time(self, seconds: Seconds) -> None:
        self.loop.at += seconds
        self.turn()
        self._happen(rounds.Woke(self.loop.at))

    # In the service's place

    def _happen(self, event: rounds.Event) -> None:
        self._state, effects = rounds.step(self._state, event, self._rules, self._roster)
        for effect in effects:
            match effect:
                case rounds.Accept(client):
                    self._accept(client)
                case Publish(Inbox(client), Receipt(accepted=True)):
                    assert client in self.counted, f"{client} is receipted, and in no sum"
                    self.receipts.append(client)
                case Publish(Inbox(client), Receipt(accepted=False, reason=reason)):
                    self.refused[client] = reason
                case Publish(OfferBoard(), Offer()):
                    pass
                case rounds.Close(outcome="averaged"):
                    self.closed = True
                case _:
                    pass
        self.desk.hurry(rounds.waits_for_storing_alone(self._state, self.loop.now(), self._rules))

    def _accept(self, client: ClientId) -> None:
        named = Named(client, ROUND)
        if self._claim is not None:
            self.desk.take(named)
            return
        self.answers.fold(client, self.updates[client], evaluates=False)
        self.counted.append(client)
        self.loop.post(lambda: self._happen(rounds.Stored(self.loop.now(), (named,))))

    def _on_own(self, client: ClientId, encoded: bytes) -> None:
        sent = messages.read_from_client(encoded)
        assert isinstance(sent, Update)
        fault = self.answers.check(client, sent)
        self._happen(
            rounds.UpdateCame(self.loop.now(), client, RUN, ROUND, MODEL.digest, "f", fault)
        )

    def _on_claim(self, claim: Claimed) -> None:
        self._claim = claim
        self._happen(
            rounds.UpdateCame(
                self.loop.now(),
                claim.client,
                claim.run,
                claim.round,
                claim.base,
                claim.fingerprint,
                claim.fault,
            )
        )
        self._claim = None

    def _on_sum(self, summed: Sum, path: Path) -> None:
        path.unlink()
        self.answers.add_sum(summed, ())
        self.by_workers += len(summed.terms)
        self.counted += [term.client for term in summed.terms]
        names = tuple(Named(term.client, ROUND) for term in summed.terms)
        self.loop.post(lambda: self._happen(rounds.Stored(self.loop.now(), names)))

    def _on_lost(self, answers: tuple[Named, ...]) -> None:
        self._happen(rounds.Lost(self.loop.now(), answers))

    def _say(self, said: Publish) -> None:
        if isinstance(said.to, Inbox):
            self.told.append(said)
            return
        assert isinstance(said.to, LanesOf) and said.message is not None
        encoded = messages.encode(said.message)
        self.largest = max(self.largest, len(encoded))
        if (wire := self.wires.get(said.to.worker)) is not None and wire.token:
            wire.down.append(encoded)

    def _listen(self, own: frozenset[int]) -> None:
        self._own = own


def updates_of(clients: list[ClientId], seed: int) -> dict[ClientId, Update]:
    """What each sends: float32 of any size, and any number of samples."""
    chance = np.random.default_rng(seed)
    return {
        client: update(
            1,
            chance.normal(0, 10.0 ** chance.integers(-6, 1), SIZE).astype(np.float32),
            sample_count=int(chance.integers(1, 1000)),
        )
        for client in clients
    }


def alone(config: FederationConfig, sent: dict[ClientId, Update]) -> bytes:
    """The model that a coordinator makes which adds all of it up itself."""
    answers = Answers(config, SIZE, len(sent))
    answers.begin(len(sent), ROUND)
    for client, one in sent.items():
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False)
    return model(answers)


def model(answers: Answers) -> bytes:
    return answers.finish(np.zeros(SIZE, np.float32)).tobytes()

"""A worker as a running program: it takes in the answers of its lanes, and adds up what counts.

    update topics ──▶ read, checked ──▶ Claims ──▶ the coordinator ──▶ Verdicts ──▶ partial sum
                                                                                        │ collected
    all else that clients say ──Passed──▶                                               └─▶ SumPiece

What is decided is decided in `intake.py`; here are the link, the numbers and large answers in
pieces, which lie in a folder of ours until they are whole. Nothing in it is needed after a restart.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coordinator import deciding
from coordinator.config import FederationConfig
from coordinator.intake.gate import ANSWERS_AT_ONCE, BURST_S
from coordinator.intake.rate_limits import Buckets
from coordinator.intake.uploads import Upload, Uploads
from coordinator.known import LOSS
from coordinator.rounds import Named
from coordinator.sums.answers import Answers
from coordinator.workers import intake, namesake
from coordinator.workers.lanes import SAID_EVERY_S, SILENT_S
from coordinator.workers.partial_sum import PartialSum
from fedmqtt import __version__, chunks, client_ids, messages, namesakes, weights
from fedmqtt.codec_chain import Sent
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.logs import Seldom, printable
from fedmqtt.messages import (
    CLAIMS_MAX,
    Chunk,
    Claimed,
    Claims,
    Evaluation,
    Go,
    Lanes,
    Passed,
    SumPiece,
    Term,
    Update,
    Verdicts,
    WireError,
    Working,
)
from fedmqtt.mqtt_link import (
    Acknowledged,
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    NodeUp,
    Part,
    Refused,
    Strayed,
    Unproven,
    next_try,
    room_for,
)
from fedmqtt.topics import (
    ANNOUNCE,
    Address,
    ClientId,
    Digest,
    Inbox,
    LanesOf,
    RoundId,
    RunId,
    Topics,
    UpdatePart,
    WorkOf,
    lane_of,
)
from fedmqtt.weights import Shapes

HELD_BYTES_MAX = 256 * 1024 * 1024
"""Of changes that wait for a word of the coordinator's. Of what is more, clients send it again."""

_UNREADABLE_BYTES = 1024
"""Of what nobody can read, that are passed on: it stays unreadable."""

_CLAIM_BYTES = 3400
"""At most: a fault has up to 500 characters, and a fingerprint 200."""

_SHORT = 4096
"""Bytes that are hashed without asking what for."""

_NO_DIGEST = Digest("0" * 64)

PROGRAM = f"fedmqtt {__version__}"
"""As a coordinator must be, too: sums of two versions may differ."""

_log = logging.getLogger("worker")


class Link(Protocol):
    """What a worker asks of its way to the broker."""

    def open(self) -> None: ...
    def close(self, last_words: Iterable[Publish] = ()) -> None: ...
    def perform(self, effect: Publish) -> None: ...
    def stream(self, parts: Iterator[Part]) -> None: ...
    def listen(self, *filters: str) -> None: ...
    def unlisten(self, *filters: str) -> None: ...


MakeLink = Callable[[EventLoop, BrokerUrl, Topics, LinkOptions, Callable[[LinkEvent], None]], Link]


@dataclass(frozen=True, slots=True)
class _Held:
    """An update that was checked, and waits."""

    change: Sent
    term: Term

    @property
    def size_bytes(self) -> int:
        return self.change.values.nbytes


class Worker:
    """Of one federation, under this name; `folder` is ours alone. Raises OSError."""

    def __init__(
        self,
        loop: EventLoop,
        config: FederationConfig,
        broker: BrokerUrl,
        name: ClientId,
        folder: Path,
        make_link: MakeLink = MqttLink,
    ) -> None:
        self._loop = loop
        self._config = config
        self._broker = broker
        self._name = name
        self._settings = deciding.digest(config)
        self._topics = Topics(config.name)
        self._uploads = Uploads(
            config.transfer.uploads_at_once, config.transfer.stall_s, folder / "uploads"
        )
        self._state = intake.State()
        self._said = 0
        """Numbered messages, in this session."""
        self._claims: list[Claimed] = []
        self._is_flush_posted = False
        self._held: dict[Named, _Held] = {}
        self._held_bytes = 0
        self._sum: PartialSum | None = None
        self._shape: tuple[int, Shapes] = (0, ())
        self._answers: Answers | None = None
        """Checks updates of that shape."""
        self._verdicts: Verdicts | None = None
        """That are being taken in."""
        limits = config.limits
        self._messages = Buckets(limits.messages_per_s, limits.messages_per_s * BURST_S)
        self._bytes = Buckets(limits.bytes_per_s, limits.bytes_per_s * BURST_S)
        self._floods, self._unproven, self._full = Seldom(), Seldom(), Seldom()
        self._refused = ""
        self._is_alone = False
        """It is told that nobody gives us lanes."""
        self._chunk_bytes = config.transfer.chunk_bytes
        self._answer_bytes_max = 1
        """No answer is larger: the coordinator says so."""
        self._listening: frozenset[int] = frozenset()
        self._uploads_timer: Timer | None = None
        self.denied = ""
        """Why we cannot go on: the broker does not let us in, or another has our name."""
        self._namesake = namesake.State()
        self.added = 0
        """Updates, since the start."""
        self.link = make_link(
            loop,
            broker,
            self._topics,
            LinkOptions(
                client_id=client_ids.of_worker(config.name, name),
                subscribe=(self._topics.path(LanesOf(name)),),
                will=lambda token: Publish(WorkOf(name), self._here(token, online=False)),
                keepalive_s=config.broker.keepalive_s,
                retry_max_s=5.0,
                tls_ca=config.broker.tls_ca or None,
                admits=self._admits,
            ),
            self._on_link,
        )

    def start(self) -> None:
        self.link.open()
        self._loop.call_in(SAID_EVERY_S, self._say_often)

    def stop(self) -> None:
        """Say goodbye: what was not handed over is sent again by its clients."""
        self.link.close([Publish(WorkOf(self._name), self._here(self._state.token, online=False))])

    # What happens

    def _happen(self, event: intake.Event) -> list[intake.Effect]:
        self._state, effects = intake.step(self._state, event)
        for effect in effects:
            self._perform(effect)
        return effects

    def _perform(self, effect: intake.Effect) -> None:
        match effect:
            case intake.SayHere():
                self._say_here()
            case intake.Listen(lanes):
                self._listen(lanes)
            case intake.Begin():
                self._said = 0
                self._claims.clear()
                self._held.clear()
                self._held_bytes = 0
                self._sum = None
            case intake.Add(named):
                self._add(named)
            case intake.Drop(named):
                self._let_go(named)
            case intake.HandOver():
                self._hand_over()
            case intake.Admit():
                assert self._verdicts is not None
                for client, announce in self._verdicts.admitted:
                    self._pass_on(self._uploads.announce(self._loop.now(), client, announce))
                self._watch_uploads()
            case intake.Check() | intake.ClaimUnseen():
                # Whose update that is, is known where it came.
                pass

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkUp(token, packet_bytes_max):
                self._namesake = namesake.connected(self._namesake, self._loop.now(), token)
                _log.info("connected to %s (%s)", self._broker, event.in_words)
                self._listening = frozenset()
                self._chunk_bytes = room_for(self._config.transfer.chunk_bytes, packet_bytes_max)
                self._happen(intake.Connected(token))
            case LinkDown():
                self._happen(intake.Disconnected())
                self._on_down(event)
            case Refused(address, reason):
                _log.error("the broker refuses %s: %s", type(address).__name__, reason)
            case Unproven(address, reason):
                what = f"dropped what came in {self._topics.path(address)}: {reason}"
                if told := self._unproven.heard(self._loop.now(), what):
                    _log.warning("%s", told)
            case Arrived(LanesOf(), payload):
                self._on_orders(payload)
            case Arrived(UpdatePart() as address, payload) if self._state.session:
                self._on_part(address, payload, event.author.key if event.author else b"")
            case Arrived() | Acknowledged() | Strayed() | NodeUp():
                pass

    def _on_down(self, down: LinkDown) -> None:
        if down.taken_over:
            self._deny(namesakes.is_another_worker(self._name))
            return
        if down.hopeless:
            self._deny(down.reason)
            return
        now, state = self._loop.now(), self._namesake
        self._namesake = namesake.disconnected(state, now, thrown_out=down.thrown_out)
        perhaps = namesake.suspicion(self._namesake, self._name)
        why = f"; {perhaps}" if perhaps else ""
        _log.warning("%s; %s%s", down.reason, next_try(down.retry_in_s), why)

    def _deny(self, why: str) -> None:
        self.denied = why
        self._loop.stop()

    # The coordinator

    def _here(self, token: str, *, online: bool = True) -> Working:
        return Working(
            token=token,
            online=online,
            program=PROGRAM,
            settings=self._settings,
            session=self._state.session,
            version=self._state.version,
            said=self._said,
        )

    def _say_here(self) -> None:
        if self._state.token:
            self.link.perform(Publish(WorkOf(self._name), self._here(self._state.token)))

    def _say_often(self) -> None:
        self._say_here()
        self._tell_of_silence()
        self._loop.call_in(SAID_EVERY_S, self._say_often)

    def _tell_of_silence(self) -> None:
        """Once: whoever has started it must not wait for nothing."""
        up_since = self._namesake.up_since
        if self._is_alone or self._state.session or up_since is None:
            return
        if self._loop.now() >= up_since + SILENT_S:
            self._is_alone = True
            _log.warning(
                "no coordinator gives us lanes: none runs, or workers.lanes is not set there"
            )

    def _on_orders(self, payload: bytes) -> None:
        try:
            orders = messages.read_to_worker(payload)
        except WireError as bad:
            _log.warning(
                "unreadable message in %s: %s", self._topics.path(LanesOf(self._name)), bad
            )
            return
        match orders:
            case Lanes():
                self._on_lanes(orders)
            case Verdicts():
                self._verdicts = orders
                self._happen(
                    intake.VerdictsCame(
                        session=orders.session,
                        number=orders.number,
                        round=orders.round,
                        taken=orders.taken,
                        refused=tuple(Named(client, number) for client, number in orders.refused),
                        collects=orders.collects,
                    )
                )
                self._verdicts = None

    def _on_lanes(self, told: Lanes) -> None:
        if told.token != self._state.token:
            return
        self._is_alone = False
        if told.refused != self._refused:
            self._refused = told.refused
            if told.refused:
                _log.warning("the coordinator gives us no lanes: %s", printable(told.refused))
        if self._answers is None or self._shape != (told.size, told.shapes):
            self._shape = (told.size, told.shapes)
            self._answers = Answers(self._config, told.size, 1, shapes=told.shapes)
        self._fit(told.answer_bytes_max)
        before = self._state.lanes
        self._happen(
            intake.LanesCame(
                token=told.token,
                session=told.session,
                version=told.version,
                lanes=frozenset(told.lanes),
                said=told.said,
                run=RunId(told.run),
                round=RoundId(told.round),
            )
        )
        self._namesake = namesake.told(self._namesake, told.session, told.before)
        if namesake.is_certain(self._namesake):
            self._deny(namesakes.is_another_worker(self._name))
            return
        # As when the coordinator closes a round.
        self._forget_uploads(lambda _, number: number >= told.round)
        if self._state.lanes != before:
            count, ours = self._config.workers.lanes, self._state.lanes
            self._forget_uploads(lambda client, _: lane_of(client, count) in ours)
            _log.info("listening to %d lanes", len(self._state.lanes))

    def _forget_uploads(self, is_wanted: Callable[[ClientId, RoundId], bool]) -> None:
        self._pass_on(self._uploads.drop(self._loop.now(), is_wanted))

    def _listen(self, lanes: frozenset[int]) -> None:
        new, old = sorted(lanes - self._listening), sorted(self._listening - lanes)
        if new:
            self.link.listen(*(self._topics.lane(one) for one in new))
        if old:
            self.link.unlisten(*(self._topics.lane(one) for one in old))
        self._listening = lanes

    def _number(self) -> int:
        self._said += 1
        return self._said

    def _pass_on(self, said: list[Publish]) -> None:
        """What clients are told: the coordinator says it, as they believe nobody else."""
        for one in said:
            assert isinstance(one.to, Inbox) and isinstance(one.message, Go)
            self._pass(one.to.client, one.message.round, "", b"", messages.encode(one.message))

    def _pass(
        self, client: ClientId, number: RoundId, part: str, key: bytes, payload: bytes
    ) -> None:
        if not self._state.session:
            return
        if len(payload) > self._answer_bytes_max:
            payload = payload[:_UNREADABLE_BYTES]
        count = max(1, chunks.count(len(payload), self._chunk_bytes))
        for index in range(count):
            start, end = chunks.span(index, len(payload), self._chunk_bytes)
            passed = Passed(
                session=self._state.session,
                number=self._number(),
                client=client,
                round=number,
                part=part,
                key=key,
                goes_on=index + 1 < count,
                payload=memoryview(payload)[start:end],
            )
            self.link.perform(Publish(WorkOf(self._name), passed))

    # Clients

    def _admits(self, address: Address, size_bytes: int) -> bool:
        if not isinstance(address, UpdatePart):
            return True
        now, client = self._loop.now(), address.client
        if self._messages.take(now, client):
            if self._bytes.take(now, client, size_bytes):
                return True
            self._messages.give_back(client, 1)
        if told := self._floods.heard(now, f"{client} sends more than limits allow"):
            _log.warning("%s", told)
        return False

    def _fit(self, answer_bytes: int) -> None:
        """As the coordinator's gate does."""
        self._answer_bytes_max = answer_bytes
        limits, pieces = self._config.limits, -(-answer_bytes // self._chunk_bytes) + 1
        at_once = max(limits.messages_per_s * BURST_S, ANSWERS_AT_ONCE * pieces)
        self._messages.resize(limits.messages_per_s, at_once)
        bytes_at_once = max(limits.bytes_per_s * BURST_S, ANSWERS_AT_ONCE * answer_bytes)
        self._bytes.resize(limits.bytes_per_s, bytes_at_once)

    def _on_part(self, address: UpdatePart, payload: bytes, key: bytes) -> None:
        client = address.client
        try:
            message = messages.read_from_client(payload)
        except WireError:
            payload = payload[:_UNREADABLE_BYTES]
            self._pass(client, address.round, address.part, key, payload)
            return
        match message:
            case Update():
                self._on_update(client, message, payload, key)
            case Chunk() if address.part != ANNOUNCE:
                self._on_chunk(client, int(address.part), message)
            case _:
                self._pass(client, address.round, address.part, key, payload)

    def _on_chunk(self, client: ClientId, index: int, chunk: Chunk) -> None:
        now = self._loop.now()
        upload = self._uploads.chunk(now, client, index, chunk)
        if upload is None:
            return
        try:
            self._on_upload(client, upload)
        finally:
            self._pass_on(self._uploads.done(self._loop.now(), upload))

    def _on_upload(self, client: ClientId, upload: Upload) -> None:
        if not self._uploads.is_intact(upload):
            _log.warning("%s: the chunks do not add up to what was announced", client)
            return
        signed = messages.encode(upload.announce)
        with upload.opened() as data:
            try:
                message = messages.read_from_client(data)
            except WireError:
                message = None
            match message:
                case Update():
                    self._on_update(client, message, signed, b"")
                case Evaluation(round=number):
                    # Encoded anew: without what nobody reads, however much that is.
                    self._pass(client, number, "0", b"", messages.encode(message))
                case _:
                    # No answer belongs in that place: so its sender is told that this is none, and
                    # does not send it for as long as the round is open.
                    begins = bytes(data[:_UNREADABLE_BYTES])
                    self._pass(client, upload.announce.round, ANNOUNCE, b"", begins)

    def _on_update(self, client: ClientId, update: Update, signed: bytes, key: bytes) -> None:
        """`signed`: the bytes that its device signed."""
        named = Named(client, RoundId(update.round))
        for effect in self._happen(intake.Came(named, RunId(update.run))):
            if isinstance(effect, intake.Check):
                self._check(named, update, signed, key)
            elif isinstance(effect, intake.ClaimUnseen):
                self._claim(client, update, "", signed, key, excused=False, checked=False)

    def _check(self, named: Named, update: Update, signed: bytes, key: bytes) -> None:
        assert self._answers is not None
        if self._held_bytes > HELD_BYTES_MAX:
            self._happen(intake.Full(named))
            if told := self._full.heard(
                self._loop.now(), f"no room for the update of {named.client}"
            ):
                _log.warning("%s: it is sent again", told)
            return
        fault = self._answers.check(named.client, update)
        change = self._answers.change
        if not fault and change is not None:
            term = Term(
                named.client,
                update.sample_count,
                update.metrics,
                update.codec,
                update.payload.nbytes,
                update.measures,
            )
            self._held[named] = held = _Held(change, term)
            self._held_bytes += held.size_bytes
        excused = self._answers.is_excused
        self._answers.let_go()
        self._claim(named.client, update, fault, signed, key, excused=excused, checked=True)

    def _claim(
        self,
        client: ClientId,
        update: Update,
        fault: str,
        signed: bytes,
        key: bytes,
        *,
        excused: bool,
        checked: bool,
    ) -> None:
        self._claims.append(
            Claimed(
                client,
                update.run,
                update.round,
                update.base,
                update.fingerprint,
                fault[:500],
                excused,
                checked,
                update.sample_count,
                update.metrics.get(LOSS),
                # Of a copy as of the first: it may be of what is wrong with its base, say.
                weights.digest(signed) if key or fault or len(signed) < _SHORT else _NO_DIGEST,
                key,
            )
        )
        if not self._is_flush_posted:
            # One message for all that have come together.
            self._is_flush_posted = True
            self._loop.post(self._flush)

    def _flush(self) -> None:
        self._is_flush_posted = False
        claims, self._claims = self._claims, []
        most = min(CLAIMS_MAX, max(1, self._chunk_bytes // _CLAIM_BYTES))
        for first in range(0, len(claims), most):
            some = tuple(claims[first : first + most])
            said = Claims(session=self._state.session, number=self._number(), claims=some)
            self.link.perform(Publish(WorkOf(self._name), said))

    # What counts

    def _add(self, named: Named) -> None:
        held = self._let_go(named)
        verdicts, answers = self._verdicts, self._answers
        assert verdicts is not None and answers is not None and held is not None
        if self._sum is None:
            self._sum = PartialSum(answers, self._state.run, named.round, verdicts.bits)
        self._sum.add(held.change, held.term)
        self.added += 1
        self._messages.give_back(named.client, 1)
        self._bytes.give_back(named.client, held.term.size_bytes)

    def _let_go(self, named: Named) -> _Held | None:
        held = self._held.pop(named, None)
        if held is not None:
            self._held_bytes -= held.size_bytes
        return held

    def _hand_over(self) -> None:
        assert self._sum is not None
        encoded = messages.encode(self._sum.message())
        self._sum = None
        self.link.stream(self._pieces(encoded, self._state.session))

    def _pieces(self, encoded: bytes, session: str) -> Iterator[Part]:
        digest = weights.digest(encoded)
        count = chunks.count(len(encoded), self._chunk_bytes)
        for index in range(count):
            if session != self._state.session:
                return
            start, end = chunks.span(index, len(encoded), self._chunk_bytes)
            piece = SumPiece(
                session=session,
                number=self._number(),
                index=index,
                count=count,
                digest=digest,
                data=memoryview(encoded)[start:end],
            )
            yield Part(WorkOf(self._name), messages.encode(piece))

    # Large answers

    def _watch_uploads(self) -> None:
        wait_s = self._uploads.wake_in_s
        if self._uploads_timer is None and wait_s is not None:
            self._uploads_timer = self._loop.call_in(wait_s, self._tick_uploads)

    def _tick_uploads(self) -> None:
        self._uploads_timer = None
        self._pass_on(self._uploads.tick(self._loop.now()))
        self._watch_uploads()

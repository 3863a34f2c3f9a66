"""Where workers come in: the coordinator's side of what they say, and what they are told.

    work/<worker> ──▶ lanes.step ──▶ claims, and what else clients sent ──▶ the round machine
                                                                         │ takes, refuses, admits
    lanes/<worker> ◀── Lanes, Verdicts ◀─────────────────────────────────┘
    sums, in pieces ──▶ a file ──▶ checked ──▶ the service, the exact sum and the ledger

`lanes.py` decides whose lanes are whose and when a sum is collected; here are messages and files.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from coordinator.config import Limits
from coordinator.rounds import Named
from coordinator.workers import lanes, partial_sum
from fedmqtt import messages, weights
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.logs import Seldom, printable
from fedmqtt.messages import (
    CLAIMS_MAX,
    Announce,
    Claimed,
    Claims,
    Go,
    Lanes,
    Passed,
    Sum,
    SumPiece,
    Verdicts,
    WireError,
    Working,
)
from fedmqtt.topics import ClientId, Digest, Inbox, LanesOf, RoundId, RunId
from fedmqtt.weights import Shapes

_SUFFIX = ".sum"

_VERDICT_BYTES = 512
"""At most, for one client that is taken, one refused and one admitted."""

_log = logging.getLogger("coordinator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What a worker has to know of the round that is open, or the next."""

    run: RunId
    round: RoundId
    size: int
    """Numbers in a change."""
    shapes: Shapes
    bits: int
    """Of fraction, in the round's sum; 0 where none is open."""
    answer_bytes_max: int
    message_bytes_max: int
    """To a worker."""
    limits: Limits
    """On what clients may send."""


@dataclass(slots=True)
class _Word:
    """What one worker is to be told next."""

    said: int = 0
    """Numbered messages, in this session."""
    taken: list[ClientId] = field(default_factory=list)
    refused: list[tuple[ClientId, RoundId]] = field(default_factory=list)
    admitted: list[tuple[ClientId, Announce]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.taken or self.refused or self.admitted)


_Place = tuple[ClientId, RoundId, str, bytes]


@dataclass(slots=True)
class _Begun:
    """What is passed on, as far as it has come."""

    place: _Place
    payload: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Arriving:
    """A sum on its way."""

    path: Path
    digest: Digest
    count: int
    next: int = 0
    size_bytes: int = 0
    """That are here."""


class Desk:
    """Of one coordinator, for as long as it runs. Raises OSError, also later."""

    def __init__(
        self,
        loop: EventLoop,
        rules: lanes.Rules,
        settings: Digest,
        program: str,
        folder: Path,
        codecs: Collection[str],
        *,
        say: Callable[[Publish], None],
        listen: Callable[[frozenset[int]], None],
        now: Callable[[], Now],
        claim: Callable[[Claimed], None],
        passed: Callable[[ClientId, Passed], None],
        summed: Callable[[Sum, Path], None],
        lose: Callable[[tuple[Named, ...]], None],
        changed: Callable[[], None],
    ) -> None:
        """`settings` and `program` are what a worker must go by, too. `folder`: for sums on their
        way. `codecs`: that an answer may name. `claim` hears of each update that came, and calls
        `take` if it counts; `passed` of what else did, and by which worker; `summed` of a sum that
        is whole and of what was taken: the file is the caller's. `lose`: what was taken, and is
        gone. `changed`: `standing` has."""
        self._loop = loop
        self._rules = rules
        self._settings = settings
        self._program = program
        self._folder = folder
        self._codecs = codecs
        self._say = say
        self._listen = listen
        self._now = now
        self._on_claim = claim
        self._on_passed = passed
        self._on_sum = summed
        self._on_lost = lose
        self._on_change = changed
        self._state = lanes.begin(rules)
        self._words: dict[ClientId, _Word] = {}
        self._is_flush_posted = False
        self._begun: dict[ClientId, _Begun] = {}
        """What a worker has passed on a part of."""
        self._arriving: dict[ClientId, _Arriving] = {}
        self._sums = 0
        """That ever began to arrive."""
        self._claiming: ClientId | None = None
        """The worker whose claim is being decided."""
        self._is_read = False
        self._alarm: Timer | None = None
        self._seldom = Seldom()
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"*{_SUFFIX}"):
            leftover.unlink()

    @property
    def own(self) -> frozenset[int]:
        """Lanes that the coordinator listens to."""
        return self._state.own()

    def standing(self) -> dict[ClientId, str]:
        """What each worker that is there does, in words for people."""
        count = len(self._state.owners)
        return {
            worker: f"gets no lanes: {its.refused}"
            if its.refused
            else f"takes {len(self._state.of(worker))} of {count} lanes"
            for worker, its in sorted(self._state.workers.items())
        }

    # What the service tells

    def take(self, named: Named) -> None:
        """The update that was claimed counts."""
        assert self._claiming is not None
        worker = self._claiming
        self._words[worker].taken.append(named.client)
        self._post_flush()
        self._happen(lanes.Took(self._loop.now(), worker, named))
        _log.debug(
            "not collected from worker %s: %d", worker, len(self._state.workers[worker].taken)
        )

    def admit(self, worker: ClientId, client: ClientId, announce: Announce) -> None:
        """The answer that came to this worker's ears may be sent to it."""
        if (word := self._words.get(worker)) is not None:
            word.admitted.append((client, announce))
            self._post_flush()

    def round_changed(self) -> None:
        """Another round is open: before clients hear of it."""
        for worker in self._state.workers:
            self._tell(worker)

    def hurry(self, is_so: bool) -> None:
        """Whether the round waits for nothing but sums."""
        if is_so != self._state.is_hurried:
            self._happen(lanes.Hurry(self._loop.now(), is_so))

    def deaf(self) -> None:
        """The link is down: workers come anew when it is up."""
        self._happen(lanes.Deaf(self._loop.now()))

    # What workers say

    def came(self, worker: ClientId, payload: bytes) -> None:
        try:
            message = messages.read_from_worker(payload)
        except WireError as bad:
            self._warn(f"worker {worker} said what nobody can read: {bad}")
            return
        now = self._loop.now()
        match message:
            case Working(online=False, token=token, session=session):
                # A will is made before there is a session.
                self._happen(lanes.Left(now, worker, token, is_goodbye=bool(session)))
            case Working():
                self._happen(
                    lanes.Said(
                        at=now,
                        worker=worker,
                        token=message.token,
                        session=message.session,
                        version=message.version,
                        said=message.said,
                        refused=self._why_refused(message),
                    )
                )
            case Claims() | Passed() | SumPiece():
                self._is_read = False
                self._happen(lanes.Numbered(now, worker, message.session, message.number))
                if self._is_read:
                    self._read(worker, message)

    def _why_refused(self, worker: Working) -> str:
        if worker.program != self._program:
            theirs = printable(worker.program) or "another program"
            return f"it is {theirs}, and the coordinator is {self._program}: their sums may differ"
        if worker.settings != self._settings:
            return (
                "its federation.toml is not the coordinator's: codec, seed, limits, training,"
                " aggregation and lanes must be the same"
            )
        return ""

    def _read(self, worker: ClientId, message: Claims | Passed | SumPiece) -> None:
        if isinstance(message, Passed):
            whole = self._put_together(worker, message)
            if whole is None:
                return
            message = whole
        elif worker in self._begun:
            self._spoilt(worker, "what it passed on has no end")
            return
        match message:
            case Claims(claims=claims):
                self._on_claims(worker, claims)
            case Passed(client=client, part="", payload=payload):
                self._say_go(client, bytes(payload))
            case Passed():
                self._on_passed(worker, message)
            case SumPiece():
                self._on_piece(worker, message)

    def _on_claims(self, worker: ClientId, claims: tuple[Claimed, ...]) -> None:
        limits = self._now().limits
        for one in claims:
            if excess := partial_sum.excess_of_claim(one, limits):
                # Before any of them counts: all of the session goes with it.
                self._spoilt(worker, f"it claims what can be of no answer: {excess}")
                return
        for one in claims:
            self._decide(worker, one)

    def _put_together(self, worker: ClientId, part: Passed) -> Passed | None:
        """What is passed on, once all of it has come."""
        begun = self._begun.get(worker)
        if begun is not None and begun.place != _place(part):
            self._spoilt(worker, "what it passed on has no end")
            return None
        before = 0 if begun is None else len(begun.payload)
        if before + part.payload.nbytes > self._now().answer_bytes_max:
            self._spoilt(worker, f"it passed on too much from {part.client}")
            return None
        if begun is None:
            if not part.goes_on:
                return part
            begun = self._begun[worker] = _Begun(_place(part))
        begun.payload += part.payload
        if part.goes_on:
            return None
        del self._begun[worker]
        return structs.replace(part, payload=memoryview(begun.payload))

    def _decide(self, worker: ClientId, claim: Claimed) -> None:
        word = self._words.get(worker)
        if word is None:
            # Gone, by what was decided of a claim before.
            return
        self._claiming = worker
        try:
            self._on_claim(claim)
        finally:
            self._claiming = None
        is_current = self._words.get(worker) is word
        if is_current and claim.checked and not self._has_taken(worker, claim):
            word.refused.append((claim.client, RoundId(claim.round)))
            self._post_flush()

    def _has_taken(self, worker: ClientId, claim: Claimed) -> bool:
        known = self._state.workers[worker]
        # The newest: it may have been collected at once.
        newest = (known.taken or known.asked)[-1:]
        return newest == (Named(claim.client, RoundId(claim.round)),)

    def _say_go(self, client: ClientId, payload: bytes) -> None:
        try:
            go = messages.read_to_client(payload)
        except WireError as bad:
            self._warn(f"a worker passed on for {client} what nobody can read: {bad}")
            return
        if isinstance(go, Go):
            self._say(Publish(Inbox(client), go))

    # Sums

    def _on_piece(self, worker: ClientId, piece: SumPiece) -> None:
        arriving, asked = self._arriving.get(worker), self._state.workers[worker].asked
        if not asked:
            self._spoilt(worker, "it sends a sum that nobody asked for")
            return
        if piece.index == 0:
            self._forget_sum(worker)
            self._sums += 1
            path = self._folder / f"{self._state.workers[worker].session}-{self._sums}{_SUFFIX}"
            arriving = self._arriving[worker] = _Arriving(path, piece.digest, piece.count)
        if arriving is None or (piece.index, piece.digest) != (arriving.next, arriving.digest):
            self._spoilt(worker, "its sum is no whole one")
            return
        now = self._now()
        arriving.size_bytes += piece.data.nbytes
        if arriving.size_bytes > partial_sum.bytes_max(now.size, len(asked), now.answer_bytes_max):
            self._spoilt(worker, f"its sum of {len(asked)} answers has too many bytes")
            return
        with arriving.path.open("ab") as file:
            file.write(piece.data)
        arriving.next += 1
        if arriving.next == arriving.count:
            del self._arriving[worker]
            self._on_whole(worker, arriving)

    def _on_whole(self, worker: ClientId, arrived: _Arriving) -> None:
        now, encoded = self._now(), arrived.path.read_bytes()
        try:
            if weights.digest(encoded) != arrived.digest:
                raise WireError("it is not what was announced")
            summed = messages.read_sum(encoded)
        except WireError as bad:
            fault = str(bad)
        else:
            asked = self._state.workers[worker].asked
            fault = partial_sum.fault(summed, now.run, now.round, now.bits, now.size, asked)
            fault = fault or partial_sum.excess(summed, now.limits, self._codecs)
        if fault:
            arrived.path.unlink()
            self._spoilt(worker, f"its sum is no good: {fault}")
            return
        self._on_sum(summed, arrived.path)
        self._happen(lanes.HandedOver(self._loop.now(), worker))

    def _spoilt(self, worker: ClientId, why: str) -> None:
        self._warn(f"worker {worker}: {why}")
        self._happen(lanes.Spoilt(self._loop.now(), worker, why))

    def _forget_sum(self, worker: ClientId) -> None:
        if (arriving := self._arriving.pop(worker, None)) is not None:
            arriving.path.unlink(missing_ok=True)

    # What is to be done

    def _happen(self, event: lanes.Event) -> None:
        before = self._state
        self._state, effects = lanes.step(before, event, self._rules)
        for worker in {*before.workers, *self._state.workers}:
            if _session(before, worker) != _session(self._state, worker):
                self._forget_sum(worker)
                self._begun.pop(worker, None)
                self._words.pop(worker, None)
                if worker in self._state.workers:
                    self._words[worker] = _Word()
        for effect in effects:
            self._perform(effect)
        # Dealt anew whenever one comes or goes.
        if self._state.owners is not before.owners:
            self._on_change()

    def _perform(self, effect: lanes.Effect) -> None:
        match effect:
            case lanes.Listen(own):
                self._listen(own)
            case lanes.Tell(worker):
                self._tell(worker)
            case lanes.Read():
                self._is_read = True
            case lanes.Collect(worker):
                self._flush_to(worker, collects=True)
            case lanes.Lose(answers):
                # It may be while the round machine decides of another.
                self._loop.post(lambda: self._on_lost(answers))
            case Note(_, about):
                _log.info("worker %s", about)
            case WakeAt(at):
                self._wake_at(at)

    def _wake_at(self, at: Seconds) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, lambda: self._happen(lanes.Woke(self._loop.now())))

    def _tell(self, worker: ClientId) -> None:
        known, word, now = self._state.workers[worker], self._words[worker], self._now()
        told = Lanes(
            token=known.token,
            before=known.before,
            session=known.session,
            version=known.version,
            lanes=self._state.of(worker),
            said=word.said,
            run=now.run,
            round=now.round,
            size=now.size,
            shapes=now.shapes,
            answer_bytes_max=now.answer_bytes_max,
            refused=known.refused,
        )
        self._say(Publish(LanesOf(worker), told))

    def _post_flush(self) -> None:
        if not self._is_flush_posted:
            # One message for what is decided of many claims.
            self._is_flush_posted = True
            self._loop.post(self._flush)

    def _flush(self) -> None:
        self._is_flush_posted = False
        for worker in sorted(self._words):
            if not self._words[worker].is_empty:
                self._flush_to(worker, collects=False)

    def _flush_to(self, worker: ClientId, *, collects: bool) -> None:
        word, now = self._words[worker], self._now()
        session = self._state.workers[worker].session
        most = min(CLAIMS_MAX, max(1, now.message_bytes_max // _VERDICT_BYTES))
        while True:
            taken, word.taken = word.taken[:most], word.taken[most:]
            refused, word.refused = word.refused[:most], word.refused[most:]
            admitted, word.admitted = word.admitted[:most], word.admitted[most:]
            word.said += 1
            said = Verdicts(
                session=session,
                number=word.said,
                round=now.round,
                bits=now.bits,
                taken=tuple(taken),
                refused=tuple(refused),
                admitted=tuple(admitted),
                collects=collects and word.is_empty,
            )
            self._say(Publish(LanesOf(worker), said))
            if word.is_empty:
                return

    def _warn(self, what: str) -> None:
        if told := self._seldom.heard(self._loop.now(), what):
            _log.warning("%s", told)


def _place(passed: Passed) -> _Place:
    return passed.client, passed.round, passed.part, passed.key


def _session(state: lanes.State, worker: ClientId) -> str:
    known = state.workers.get(worker)
    return "" if known is None else known.session

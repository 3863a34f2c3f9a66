"""What the coordinator must not forget: the open round, whose answers count, the next model.

    <run>/ledger.db      SQLite (or a schema in PostgreSQL); small answers lie in it
    <run>/answers/       answers that came in chunks, a file each, named in it; so are workers' sums

    keep(answer) ──▶ queue ──▶ writer thread: one transaction for all that wait ──▶ then(all)
                                (files and log forced to the disk)

Accepted answers are written by a thread, so that receiving goes on meanwhile, and in groups: while
one transaction is forced to the disk, the next collects. What happens once a round (it opens, it
closes) is written at once, and the caller waits.

Which database it is written to, `storage.py` hides. Where a program on another machine may go on
from it, the files that it names are in it as well, in pieces.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct, structs

from coordinator import fleet_size
from coordinator.known import Known, Learned, Report
from coordinator.orders import NO_ORDERS, Control
from coordinator.pacing import Pace
from coordinator.persistence import file_pieces, sqlite_storage
from coordinator.persistence.durable import force
from coordinator.persistence.file_pieces import FileDamaged
from coordinator.persistence.history import Record
from coordinator.persistence.run_errors import LedgerDamaged, LedgerError
from coordinator.persistence.sqlite_storage import SqliteStorage
from coordinator.persistence.storage import Database, Row, Storage
from coordinator.rounds import SETTLED_ROUNDS, Named
from fedmqtt import sortition, unreadable
from fedmqtt.effects import Seconds
from fedmqtt.envelope import KEY_BYTES, TICKET_BYTES, Author
from fedmqtt.messages import DeltaRef, Masking, ModelRef, Sortition
from fedmqtt.topics import NAME_PATTERN, ClientId, Digest, RoundId, RunId

_T = TypeVar("_T")

ANSWERS = "answers/"
"""Before the names of their files, where the ledger holds them."""

Names = tuple[Named, ...]

_Client = Annotated[str, Meta(pattern=NAME_PATTERN)]
_AUTHOR_BYTES = KEY_BYTES + TICKET_BYTES
_File = Annotated[str, Meta(pattern=r"^[0-9]+-[A-Za-z0-9._-]+\Z")]
"""In the ledger's own folder, and in no other."""


class _OpenRow(NamedTuple):
    number: int
    opening: bytes
    closes_in_s: float
    refusals: bytes | None


class _AnswerRow(NamedTuple):
    came: int
    round: int
    client: _Client
    file: _File | None
    report: bytes | None
    author: Annotated[bytes, Meta(min_length=_AUTHOR_BYTES, max_length=_AUTHOR_BYTES)] | None
    summed: int | None


class _Lacking(ValueError):
    """The ledger is whole as a file, and does not hold what it must."""


class Beginning(Struct, frozen=True, kw_only=True):
    """What a whole run has in common."""

    run: RunId
    task: str
    tensors: list[tuple[str, list[int]]]
    """Names and shapes, in the order in which the model is laid out."""
    asked: str = ""
    """By which settings, where the run describes data: see `statistics/asked.py`."""
    differential_privacy: str = ""
    """By which settings something is promised, where anything is."""


class Opening(Struct, frozen=True, kw_only=True):
    """How a round began."""

    model: ModelRef
    train: list[ClientId]
    evaluate: list[ClientId]
    deadline_s: Seconds
    terms_max: int
    """For how many answers the exact sum has room: its resolution follows from it."""
    settings: str
    """Of training and averaging: answers that were made by others do not add up."""
    sortition: Sortition | None = None
    """By which others than those may come into it."""
    shut_with: list[ClientId] | None = None
    """All that came into it to train, once nobody else may."""
    masking: Masking | None = None
    """By which keys its answers are masked."""

    @property
    def is_for_training(self) -> bool:
        return bool(self.train) or sortition.trains_quietly(self.sortition)


class SharedFile(NamedTuple):
    digest: str
    """SHA-256, hexadecimal."""
    address: str | None
    """Where its bytes lie; None: in the ledger."""


class Refusals(Struct, frozen=True, kw_only=True):
    declined: dict[ClientId, str]
    rejected: dict[ClientId, str]


class Carried(Struct, frozen=True, kw_only=True):
    """What goes from one round to the next beside the model."""

    pace: Pace
    late: int
    typical_s: Seconds
    sizes: fleet_size.Belief = ()
    """Of a quiet federation: how many would answer."""


class MemoryFile(Struct, frozen=True, kw_only=True):
    """What the aggregation strategy remembers from the round that made a model."""

    strategy: str
    """By name: another one has no use for it."""
    file: str
    """Below the run's folder."""
    digest: Digest
    """Of the file."""


class PublishedFiles(Struct, frozen=True, kw_only=True):
    """What clients were given for the newest model, where it is not that model itself."""

    digest: Digest
    deltas: list[DeltaRef]


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The newest model."""

    file: str
    """Below the run's folder."""
    digest: Digest
    trained_rounds: int
    memory: MemoryFile | None = None
    published: PublishedFiles | None = None


class KeptModel(Struct, frozen=True, kw_only=True):
    """A model that one can go back to."""

    round: RoundId
    """That made it; 0: the run began with it."""
    checkpoint: Checkpoint
    """Without what clients were given for it: they will be given all of it."""


class Listed(Struct, frozen=True, kw_only=True):
    """Whose answers make up the sum of a masked round: written before any keyholder is told."""

    round: RoundId
    reason: str
    """Why the round closed."""
    digest: str
    """Of the list, as keyholders are told it: hexadecimal."""
    clients: list[ClientId]
    looks: bool = False
    """Whether keyholders are only to look at it: nobody has been asked to open it, and another may
    come in its place."""
    unfit: dict[ClientId, str] = {}
    """Whose answers came and are not on it, since keyholders found them unfit: and why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An accepted answer: its bytes, or the file that holds them."""

    named: Named
    message: bytes | None = None
    file: Path | None = None
    report: Report | None = None
    """What it told of its sender; None for an evaluation."""
    author: Author | None = None
    """Who signed it, where that has to be known later."""
    is_summed: bool = False
    """It is in one of the open round's `sums`, and nowhere else."""

    def read(self) -> bytes:
        if self.message is not None:
            return self.message
        assert self.file is not None
        return self.file.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """What is known of a round that has not been closed."""

    number: RoundId
    opening: Opening
    closes_in_s: Seconds
    """As of the last thing that was written about it. The time without a coordinator is given back
    to the clients, whatever any clock says."""
    refusals: Refusals
    listed: Listed | None = None


@dataclass(slots=True)
class _Job:
    write: Callable[[Database], None]
    names: Names = ()
    then: Callable[[Names], None] | None = None
    files: tuple[Path, ...] = ()
    waited_for: threading.Event | None = None


@dataclass(slots=True)
class _Queue:
    """Between the event loop and the writer."""

    jobs: deque[_Job] = field(default_factory=deque)
    refusal: _Job | None = None
    """The one of the jobs that writes down refusals: a newer one takes its place."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    is_closed: bool = False
    failure: LedgerError | None = None


class Ledger:
    """Of one run. Used by one thread; `post` is how its writer gets back there.

    Raises LedgerError when the file is damaged or of another program, or cannot be written. After
    a failure every call fails: what was not written is not receipted, and lies with its client.
    """

    def __init__(
        self,
        folder: Path,
        post: Callable[[Callable[[], None]], None],
        on_failure: Callable[[LedgerError], None] = lambda failure: None,
        *,
        durable: bool = True,
        remembers: int = SETTLED_ROUNDS,
        storage: Storage | None = None,
    ) -> None:
        """`remembers`: of so many closed rounds, whose answers counted. `durable=False` does not
        force anything to the disk: to measure what that costs. `storage` is closed with this; none
        is a file in the folder."""
        self._post = post
        self._on_failure = on_failure
        self._durable = durable
        self._remembers = remembers
        self._queue = _Queue()
        self.answers_folder = folder / "answers"
        self._fetched: set[str] = set()
        """Answers whose files are those that are meant: written or looked at by this program."""
        try:
            self.answers_folder.mkdir(parents=True, exist_ok=True)
            self._storage = storage or SqliteStorage(folder, durable=durable)
            # The folder may be as new as what is in it.
            for names in (folder, folder.parent):
                force(names)
        except (OSError, *sqlite_storage.ERRORS) as bad:
            where = storage.name if storage is not None else str(folder / sqlite_storage.FILE)
            kind = LedgerDamaged if sqlite_storage.is_damage(bad) else LedgerError
            raise kind(f"ledger {where}: {sqlite_storage.explain(bad, folder)}") from bad
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    @property
    def is_elsewhere(self) -> bool:
        """Whether a program on another machine may go on with this run."""
        return self._storage.is_elsewhere

    def close(self) -> None:
        """Write what waits, and be done."""
        self._storage.end_soon()
        with self._queue.changed:
            self._queue.is_closed = True
            self._queue.changed.notify()
        self._writer.join()
        self._storage.close()

    # Facts of the run

    def begin(
        self,
        beginning: Beginning,
        carried: Carried,
        checkpoint: Checkpoint,
        models: Sequence[KeptModel] = (),
    ) -> None:
        def write(db: Database) -> None:
            _put(db, "beginning", beginning)
            _put(db, "carried", carried)
            _put(db, "checkpoint", checkpoint)
            _put(db, "models", models)

        self._now(write)

    def take_epoch(self, epoch: int) -> None:
        self._now(lambda db: _put(db, "epoch", epoch))

    def finish(self) -> None:
        """The run has come to its end: there is nothing to go on with."""
        self._now(lambda db: _put(db, "finished", True))

    def beginning(self) -> Beginning | None:
        return self._fact("beginning", Beginning)

    def carried(self) -> Carried:
        return self._must("carried", Carried)

    def checkpoint(self) -> Checkpoint:
        return self._must("checkpoint", Checkpoint)

    def models(self) -> list[KeptModel]:
        """Those that one can go back to, oldest first."""
        return self._fact("models", list[KeptModel]) or []

    def control(self) -> Control:
        return self._fact("control", Control) or NO_ORDERS

    def order(self, control: Control) -> None:
        """What operators have ordered, and what came of it."""
        self._now(lambda db: _put(db, "control", control))

    def go_back(self, checkpoint: Checkpoint, control: Control) -> None:
        """The newest model is this one, and that was what was ordered."""

        def write(db: Database) -> None:
            _put(db, "checkpoint", checkpoint)
            _put(db, "control", control)

        self._now(write)

    def epoch(self) -> int:
        """Of the coordinator that wrote here last; 0 before the first."""
        return self._fact("epoch", int) or 0

    def is_finished(self) -> bool:
        return self._fact("finished", bool) or False

    # Rounds

    def open_round(self, number: RoundId, opening: Opening) -> None:
        row = (number, msgspec.json.encode(opening), opening.deadline_s)
        used = self.keys_used() if opening.masking is not None else {}
        if opening.masking is not None:
            used |= {one.name: one.key.number for one in opening.masking.keyholders}

        def write(db: Database) -> None:
            db.run("INSERT INTO round VALUES (?, ?, ?, NULL, NULL)", row)
            if used:
                _put(db, "keys_used", used)

        self._now(write)

    def keys_used(self) -> dict[ClientId, int]:
        """The number of each keyholder's newest key that a round of this run was opened with."""
        return self._fact("keys_used", dict[ClientId, int]) or {}

    def list_round(self, listed: Listed) -> None:
        self._now(lambda db: _put(db, "listed", listed))

    def invite(self, number: RoundId, opening: Opening) -> None:
        """More are invited to the open round: from now on it is as if it had begun like this."""
        row = (msgspec.json.encode(opening), number)
        self._now(lambda db: db.run("UPDATE round SET opening = ? WHERE number = ?", row))

    def shut(self, number: RoundId, train: Collection[ClientId]) -> None:
        """Nobody else comes into the open round to train. Who has answered is written before."""

        def write(db: Database) -> None:
            ((blob,),) = db.rows("SELECT opening FROM round WHERE number = ?", (number,))
            opening = structs.replace(self._decode(blob, Opening), shut_with=sorted(train))
            row = (msgspec.json.encode(opening), number)
            db.run("UPDATE round SET opening = ? WHERE number = ?", row)

        self._now(write)

    def keep(
        self, answer: Kept, closes_in_s: Seconds | None, then: Callable[[Names], None] | None
    ) -> None:
        """Write an accepted answer, soon; `then` is called when it is safe.

        Once for all that became safe together, with their names in the order in which they came.

        A file is moved into the ledger's folder at once. `closes_in_s`, of the open round.
        """
        named, file = answer.named, answer.file
        if file is not None:
            kept = self.answers_folder / f"{named.round}-{named.client}"
            try:
                file.replace(kept)
            except OSError as bad:
                raise self._error(bad) from bad
            file = kept
            self._fetched.add(kept.name)
        report = None if answer.report is None else msgspec.json.encode(answer.report)
        author = None if answer.author is None else b"".join(answer.author)
        name = file.name if file else None
        row = (named.round, named.client, answer.message, name, report, author)

        def write(db: Database) -> None:
            columns = "(round, client, message, file, report, author)"
            db.run(f"INSERT INTO answer {columns} VALUES (?, ?, ?, ?, ?, ?)", row)
            if file is not None and self.is_elsewhere:
                file_pieces.write(db, ANSWERS + file.name, file)
            if closes_in_s is not None:
                db.run("UPDATE round SET closes_in_s = ? WHERE record IS NULL", (closes_in_s,))

        self._soon(_Job(write, (named,), then, (file,) if file else ()))

    def keep_sum(
        self,
        answers: Sequence[tuple[Named, Report | None]],
        file: Path,
        closes_in_s: Seconds | None,
        then: Callable[[Names], None] | None,
    ) -> None:
        """Write what a worker has added up of these answers to the open round, as `keep` does one.

        The file, whose name is like no other's, is moved into the ledger's folder at once.
        """
        names = tuple(named for named, _ in answers)
        number = names[0].round
        kept = self.answers_folder / f"{number}-{file.name}"
        try:
            file.replace(kept)
        except OSError as bad:
            raise self._error(bad) from bad
        self._fetched.add(kept.name)
        rows = [
            (named.round, named.client, None if told is None else msgspec.json.encode(told))
            for named, told in answers
        ]

        def write(db: Database) -> None:
            db.run("INSERT INTO sum (round, file) VALUES (?, ?)", (number, kept.name))
            db.run_many(
                "INSERT INTO answer (round, client, report, summed) VALUES (?, ?, ?, 1)", rows
            )
            if self.is_elsewhere:
                file_pieces.write(db, ANSWERS + kept.name, kept)
            if closes_in_s is not None:
                db.run("UPDATE round SET closes_in_s = ? WHERE record IS NULL", (closes_in_s,))

        self._soon(_Job(write, names, then, (kept,)))

    def sums(self, number: RoundId) -> list[Path]:
        """Files of what workers have added up of this round's answers."""
        rows = self._rows("SELECT file FROM sum WHERE round = ? ORDER BY number", (number,))
        return [self._answers_file(file) for (file,) in self._checked(rows, tuple[_File])]

    def refuse(self, number: RoundId, refusals: Refusals) -> None:
        """Who declined and who was rejected in the open round, soon; nobody waits for it.

        All of them each time: what waits to be written is replaced, or many would be written often.
        """

        def write(db: Database) -> None:
            row = (msgspec.json.encode(refusals), number)
            db.run("UPDATE round SET refusals = ? WHERE number = ?", row)

        self._raise_failure()
        with self._queue.changed:
            if self._queue.refusal is not None:
                # Of the same round: a round is opened and closed when nothing waits any more.
                self._queue.refusal.write = write
                return
            self._queue.refusal = job = _Job(write)
        self._soon(job)

    def set_aside(self, answers: Sequence[Named]) -> None:
        """They are used up without having counted. That they came is remembered."""
        rows = [(named.round, named.client) for named in answers]

        def write(db: Database) -> None:
            db.run_many(
                "UPDATE answer SET counted_in = round, message = NULL, file = NULL"
                " WHERE round = ? AND client = ?",
                rows,
            )

        self._now(write)
        self.tidy()

    def close_round(
        self,
        record: Record,
        held: Sequence[Named],
        carried: Carried,
        checkpoint: Checkpoint,
        learned: Learned = MappingProxyType({}),
        participations: Mapping[ClientId, int] = MappingProxyType({}),
        models: Sequence[KeptModel] | None = None,
    ) -> None:
        """The round has come out like this. `held` are the late answers that it took up. `models`,
        those that one can go back to from now on; None: as before."""
        number = record.round
        # By name: an answer to this round may wait here that came when it had just closed.
        answered = {*record.answered, *record.evaluated}
        taken = [(number, number, client) for client in sorted(answered)]
        taken += [(number, named.round, named.client) for named in held]
        forgotten = number - self._remembers

        def write(db: Database) -> None:
            db.run(
                "UPDATE round SET record = ?, refusals = NULL WHERE number = ?",
                (msgspec.json.encode(record), number),
            )
            db.run_many("UPDATE answer SET counted_in = ? WHERE round = ? AND client = ?", taken)
            # That it counted is remembered for a while; what it was has been used.
            db.run("UPDATE answer SET message = NULL, file = NULL WHERE counted_in = ?", (number,))
            db.run("DELETE FROM sum WHERE round <= ?", (number,))
            db.run(
                "DELETE FROM answer WHERE round <= ? AND counted_in IS NOT NULL",
                (forgotten,),
            )
            _put(db, "carried", carried)
            _put(db, "checkpoint", checkpoint)
            if models is not None:
                _put(db, "models", models)
            _put_known(db, learned)
            db.run_many(_upsert("participation", "name", "count"), sorted(participations.items()))
            if record.outcome == "evaluated":
                # Nothing follows; a crash right now must not evaluate the last model again.
                _put(db, "finished", True)

        self._now(write)
        self.tidy()

    def records(self) -> list[Record]:
        """Of all closed rounds, oldest first."""
        rows = self._rows("SELECT record FROM round WHERE record IS NOT NULL ORDER BY number")
        return [self._decode(blob, Record) for (blob,) in rows]

    def known(self) -> dict[ClientId, Known]:
        """Of each client, as of the last round that closed."""
        rows = self._rows("SELECT name, known FROM client ORDER BY name")
        return {
            ClientId(name): self._decode(blob, Known)
            for name, blob in self._checked(rows, tuple[_Client, bytes])
        }

    def participations(self) -> dict[ClientId, int]:
        """What is counted of each client's, where they have an end; nobody is forgotten."""
        rows = self._rows("SELECT name, count FROM participation ORDER BY name")
        return {ClientId(name): count for name, count in self._checked(rows, tuple[_Client, int])}

    def open_round_now(self) -> OpenRound | None:
        columns = "number, opening, closes_in_s, refusals"
        rows = self._rows(f"SELECT {columns} FROM round WHERE record IS NULL")
        for number, opening, closes_in_s, refusals in self._checked(rows, _OpenRow):
            nobody = Refusals(declined={}, rejected={})
            listed = self._fact("listed", Listed)
            return OpenRound(
                number=RoundId(number),
                opening=self._decode(opening, Opening),
                closes_in_s=closes_in_s,
                refusals=self._decode(refusals, Refusals) if refusals else nobody,
                listed=listed if listed is not None and listed.round == number else None,
            )
        return None

    def closed_rounds(self) -> list[tuple[RoundId, Opening, frozenset[ClientId]]]:
        """The last of them: how each began, and whose answers counted in it or are to count."""
        rows = self._rows(
            "SELECT number, opening FROM round WHERE record IS NOT NULL"
            f" ORDER BY number DESC LIMIT {self._remembers}"
        )
        return [
            (RoundId(number), self._decode(blob, Opening), self._answered(RoundId(number)))
            for number, blob in reversed(rows)
        ]

    def kept(self) -> Iterator[Kept]:
        """Answers that have not been used yet, in the order in which they came."""
        columns = "came, round, client, file, report, author, summed"
        rows = self._rows(f"SELECT {columns} FROM answer WHERE counted_in IS NULL ORDER BY came")
        for came, number, client, file, told, signed, summed in self._checked(rows, _AnswerRow):
            named = Named(ClientId(client), RoundId(number))
            report = None if told is None else self._decode(told, Report)
            author = None if signed is None else Author(signed[:KEY_BYTES], signed[KEY_BYTES:])
            if summed is not None:
                yield Kept(named, report=report, author=author, is_summed=True)
            elif file is not None:
                yield Kept(named, file=self._answers_file(file), report=report, author=author)
            else:
                # One at a time: all of them may be more than there is memory.
                row = self._rows("SELECT message FROM answer WHERE came = ?", (came,))
                ((message,),) = self._checked(row, tuple[bytes])
                yield Kept(named, message=message, report=report, author=author)

    def tidy(self) -> None:
        """Remove answers that have been used, or were never written about."""
        rows = self._rows(
            "SELECT file FROM answer WHERE file IS NOT NULL UNION SELECT file FROM sum"
        )
        named = {file for (file,) in self._checked(rows, tuple[_File])}
        for path in self.answers_folder.iterdir():
            if path.name not in named:
                path.unlink()
        self._fetched &= named
        stale = self.files().keys() - {ANSWERS + file for file in named}
        self.forget_files(sorted(name for name in stale if name.startswith(ANSWERS)))

    def _answers_file(self, file: str) -> Path:
        """Where it lies; it has been brought there if it was not."""
        path = self.answers_folder / file
        if self.is_elsewhere and file not in self._fetched:
            self.fetch_file(ANSWERS + file, path)
            self._fetched.add(file)
        return path

    # Files of the run's folder, where the ledger holds them too

    def files(self) -> dict[str, SharedFile]:
        """By name, below the run's folder."""
        rows = self._rows("SELECT name, digest, object FROM file ORDER BY name")
        found = self._checked(rows, tuple[str, str, str | None])
        return {name: SharedFile(digest, lies) for name, digest, lies in found}

    def put_file(self, name: str, path: Path) -> None:
        self._now(lambda db: file_pieces.write(db, name, path))

    def name_file(self, name: str, digest: str, address: str) -> None:
        """It lies there."""
        self._now(lambda db: file_pieces.lies_elsewhere(db, name, digest, address))

    def fetch_file(self, name: str, path: Path, mode: int = 0o666) -> None:
        """Make `path` the file that was put there by this name, if it is not. Raises OSError too.
        `mode`: see `durable.write_whole`."""
        file = self.files().get(name)
        if file is None:
            raise self._error(_Lacking(f"there is no {name} in it"))
        try:
            if not file_pieces.is_here(path, file.digest):
                pieces = file_pieces.pieces(self._rows, name)
                file_pieces.fetch(path, pieces, file.digest, name, mode)
        except FileDamaged as bad:
            raise self._error(_Lacking(str(bad))) from bad

    def forget_files(self, names: Sequence[str]) -> None:
        if names:
            self._now(lambda db: file_pieces.forget(db, names))

    def _answered(self, number: RoundId) -> frozenset[ClientId]:
        rows = self._rows("SELECT client FROM answer WHERE round = ?", (number,))
        return frozenset(ClientId(client) for (client,) in self._checked(rows, tuple[_Client]))

    # Reading

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        self._flush()
        try:
            return self._storage.rows(query, values)
        except Exception as bad:
            # Each database has errors of its own.
            raise self._error(bad) from bad

    def _fact(self, name: str, kind: type[_T]) -> _T | None:
        rows = self._rows("SELECT value FROM fact WHERE name = ?", (name,))
        return self._decode(rows[0][0], kind) if rows else None

    def _must(self, name: str, kind: type[_T]) -> _T:
        fact = self._fact(name, kind)
        if fact is None:
            raise self._error(_Lacking(f"there is no {name} in it"))
        return fact

    def _decode(self, blob: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(msgspec.convert(blob, bytes), type=kind)
        except unreadable.MESSAGE as bad:
            raise self._error(bad) from bad

    def _checked(self, rows: list[tuple[Any, ...]], kind: type[_T]) -> list[_T]:
        """SQLite itself admits any type in any column."""
        try:
            return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]
        except msgspec.ValidationError as bad:
            raise self._error(bad) from bad

    def _error(self, bad: BaseException) -> LedgerError:
        if isinstance(bad, LedgerError):
            return bad
        is_damage = isinstance(bad, (_Lacking, *unreadable.MESSAGE)) or self._storage.is_damage(bad)
        kind = LedgerDamaged if is_damage else LedgerError
        return kind(f"ledger {self._storage.name}: {self._storage.explain(bad)}")

    # Writing

    def _now(self, write: Callable[[Database], None]) -> None:
        done = threading.Event()
        self._soon(_Job(write, waited_for=done))
        done.wait()
        self._raise_failure()

    def _flush(self) -> None:
        """The connection is the writer's until nothing waits any more."""
        self._now(lambda db: None)

    def _soon(self, job: _Job) -> None:
        self._raise_failure()
        with self._queue.changed:
            if self._queue.is_closed:
                raise self._error(ValueError("it has been closed"))
            self._queue.jobs.append(job)
            self._queue.changed.notify()

    def _raise_failure(self) -> None:
        if self._queue.failure is not None:
            raise self._queue.failure

    def _write(self) -> None:
        queue = self._queue
        while True:
            with queue.changed:
                queue.changed.wait_for(lambda: queue.jobs or queue.is_closed)
                group = list(queue.jobs)
                queue.jobs.clear()
                queue.refusal = None
            if not group:
                return
            if queue.failure is None:
                self._commit(group)
            for job in group:
                if job.waited_for is not None:
                    job.waited_for.set()

    def _commit(self, group: list[_Job]) -> None:
        try:
            if self._durable:
                for path in {file for job in group for file in job.files}:
                    force(path)
                if any(job.files for job in group):
                    force(self.answers_folder)
            self._storage.commit(lambda db: _write_all(db, group))
        except BaseException as bad:
            # Whatever it is: a writer that ended in silence would be waited for without end.
            failure = self._queue.failure = self._error(bad)
            failure.__cause__ = bad
            self._post(lambda: self._on_failure(failure))
            return
        for then, names in _by_listener(group).items():
            self._post(partial(then, tuple(names)))


def _put(db: Database, name: str, value: Any) -> None:
    db.run(_upsert("fact", "name", "value"), (name, msgspec.json.encode(value)))


def _put_known(db: Database, learned: Learned) -> None:
    rows = [
        (name, msgspec.json.encode(one)) for name, one in sorted(learned.items()) if one is not None
    ]
    db.run_many(_upsert("client", "name", "known"), rows)
    forgotten = [(name,) for name, one in sorted(learned.items()) if one is None]
    db.run_many("DELETE FROM client WHERE name = ?", forgotten)


def _upsert(table: str, key: str, column: str) -> str:
    """The statement that writes a row of these two, new or not."""
    return (
        f"INSERT INTO {table} ({key}, {column}) VALUES (?, ?)"
        f" ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}"
    )


def _write_all(db: Database, group: Sequence[_Job]) -> None:
    for job in group:
        job.write(db)


def _by_listener(group: Sequence[_Job]) -> dict[Callable[[Names], None], list[Named]]:
    told: dict[Callable[[Names], None], list[Named]] = {}
    for job in group:
        if job.then is not None:
            told.setdefault(job.then, []).extend(job.names)
    return told

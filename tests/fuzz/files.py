"""What is read back from a disk: by a device, by a coordinator that goes on, by a report; and what
the trainer's process says."""

import functools
import hashlib
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import numpy as np
from msgspec import structs

from broker_config.doctor.checks import clock
from coordinator import round_rules
from coordinator.config import FederationConfig
from coordinator.intake import quarantine, quarantine_file
from coordinator.intake.quarantine import Add, Lift, Standing, Term
from coordinator.known import Known, Report
from coordinator.models import checkpoint
from coordinator.models.checkpoint import CheckpointError
from coordinator.persistence import recovery
from coordinator.persistence.ledger import Checkpoint, Kept, Ledger, Refusals
from coordinator.persistence.run_errors import LedgerError
from coordinator.rounds import Named
from edge_client import personal_layers, remembered, training_job
from edge_client.device_memory import DeviceMemory
from edge_client.outbox import Outbox
from edge_client.remembered import Remembered
from edge_client.session import Answer
from edge_client.training_job import Done, Failed, PipeError, Progress, Rebuild, Rebuilt, Stop
from fedmqtt import checked_file, personal, weights
from fedmqtt.envelope import Author
from fedmqtt.messages import Method
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from keyholder import taken
from keyholder.book import Book, BookError
from keyholder.listed import Listed
from keyholder.participations import NotCounted, Participations
from keyholder.taken import TakenFiles
from round_monitor import run_files, run_page
from round_monitor.run_files import ReportError
from tests.coordinator.ledger_books import BEGINNING, CARRIED, opening, record
from tests.edge_client.jobs import job
from tests.fuzz.decoder import Decoder, MadeNothing
from tests.fuzz.masked import MASKINGS, asked
from tests.fuzz.numbers import LAYOUT, SIZE
from tests.round_monitor.run_folders import line

RUN = RunId("r-1")
_COUNTED = asked(structs.replace(MASKINGS[0], participations_max=3))
_SEVERAL = asked(structs.replace(MASKINGS[0], lists_max=3))
_DAMAGED = (LedgerError, CheckpointError)
_NOON = 1_800_000_000.0
_FLAT = np.arange(SIZE, dtype=np.float32) / np.float32(8)


@functools.cache
def folder(name: str) -> Path:
    """Of this process, and gone with it."""
    return Path(_root().name) / name


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def place(name: str, data: bytes) -> Path:
    path = folder(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# A device's


def with_sum(data: bytes) -> bytes:
    """As its own program would have written it: a disk's damage is found by the sum, and only who
    can make one comes any further."""
    return hashlib.sha256(data).digest() + data


def without_sum(path: Path) -> bytes:
    return bytes(checked_file.read(path))


def _memory(data: bytes) -> None:
    place(f"memory/{RUN}.memory", with_sum(data))
    memory = DeviceMemory(folder("memory"))
    found = remembered.read(memory, RUN)
    for array in found.arrays.values():
        assert array.dtype.str in ("<f4", "<i4") and array.nbytes <= len(data)
    # What the agent does with it, which knows no arrays.
    answer = Answer(RUN, RoundId(3), Digest("c" * 64), 1)
    place(f"memory/{RUN}.memory", with_sum(data))
    memory.settle(answer, accepted=False, counted=RoundId(2))
    if found is remembered.NOTHING:
        raise MadeNothing


def _memories() -> list[bytes]:
    memory = DeviceMemory(folder("seed-memory"))
    answer = Answer(RUN, RoundId(2), Digest("b" * 64), 100)
    arrays = {"counted": np.arange(5, dtype=np.int32), "residual": _FLAT, "none": _FLAT[:0]}
    known = Remembered(round=RoundId(2), facts={"seen": 2.0}, arrays=arrays)
    remembered.keep(memory, answer, known)
    memory.settle(answer, accepted=True, counted=RoundId(2))
    return [without_sum(memory.committed(RUN))]


_DIVISION = personal.division(LAYOUT, Method(personal=("b",)).personal)


def _layers(data: bytes) -> None:
    place(f"layers/{RUN}.personal", with_sum(data))
    found = personal_layers.read(folder("layers"), RUN, _DIVISION)
    if found is None:
        raise MadeNothing
    assert found.shape == (_DIVISION.personal.size,)


def _kept_layers() -> list[bytes]:
    flat = np.ones(_DIVISION.personal.size, np.float32)
    return [weights.write(_DIVISION.personal, flat)]


def _outbox(data: bytes) -> None:
    """A file's name, as the first line, and what is in it."""
    name, _, content = data.partition(b"\n")
    outbox = Outbox(folder("outbox"))
    try:
        path = outbox.folder / name.decode()
        is_one = path.parent == outbox.folder and path.name not in ("", ".", "..")
        if not is_one:
            raise MadeNothing
        path.write_bytes(content)
    except (OSError, ValueError) as bad:
        # No file can have this name.
        raise MadeNothing from bad
    whole, damaged = outbox.answers()
    for answer in whole:
        assert outbox.read(answer) == content
    assert len(whole) + len(damaged) <= 1
    for left in outbox.folder.iterdir():
        left.unlink()
    if not whole:
        raise MadeNothing


def _answers() -> list[bytes]:
    content = b"what was learned"
    digest = hashlib.sha256(content).hexdigest()
    return [
        f"{name}-{digest}.answer\n".encode() + content
        for name in ("r-1-7", "2026-01-31.a-0", "x-9999999999")
    ]


# A trainer's


def _said(data: bytes) -> None:
    """As the agent hears it, in two pieces."""
    reader, heard = training_job.Reader(), 0
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        reader.feed(piece)
        for message in reader.from_trainer():
            assert training_job.pack(message)
            heard += 1
    if not heard:
        raise MadeNothing


def _ordered(data: bytes) -> None:
    reader = training_job.Reader()
    reader.feed(data)
    heard = 0
    for message in reader.to_trainer():
        assert training_job.pack(message)
        heard += 1
    if not heard:
        raise MadeNothing


def _words() -> list[bytes]:
    done = Done(run=RUN, round=RoundId(3), digest=Digest("a" * 64), size_bytes=7)
    said = (Progress(fraction=0.5), done, Rebuilt(), Failed(reason="out of memory"))
    packed = [training_job.pack(one) for one in said]
    return [*packed, b"".join(packed)]


def _orders() -> list[bytes]:
    rebuild = Rebuild(
        base_path="a", delta_paths=["b", "c"], model_path="d", digest=Digest("a" * 64)
    )
    ordered = structs.replace(
        job(_seed_folder("jobs")), data_dir="data", model_path="m.model", outbox="outbox"
    )
    orders = (ordered, rebuild, Stop())
    return [training_job.pack(one) for one in orders]


def _seed_folder(name: str) -> Path:
    path = folder(name)
    path.mkdir(parents=True, exist_ok=True)
    return path


# A coordinator's


def _checkpoint(data: bytes) -> None:
    path = place("model.safetensors", data)
    layout, flat = checkpoint.load(path)
    assert layout.size == flat.size and np.isfinite(flat).all()
    checkpoint.save(folder("again.safetensors"), layout, flat, {})
    again, numbers = checkpoint.load(folder("again.safetensors"))
    # Its own order of names is the file's affair.
    assert again.flatten(layout.unflatten(flat)).tobytes() == numbers.tobytes()


def _checkpoints() -> list[bytes]:
    path = folder("seed.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, LAYOUT, _FLAT, {"round": "1"})
    return [path.read_bytes()]


@functools.cache
def _run() -> Path:
    """A run that was interrupted in its second round, with an answer that no model contains yet."""
    path = _seed_folder("seed-run")
    digest = weights.digest(weights.write(LAYOUT, _FLAT))
    checkpoint.save(_seed_folder("seed-run/models") / "0.safetensors", LAYOUT, _FLAT, {})
    tensors = [(name, list(shape)) for name, shape in LAYOUT.tensors]
    first = Checkpoint(file="models/0.safetensors", digest=digest, trained_rounds=0)
    ledger = Ledger(path, lambda then: then(), durable=False)
    ledger.begin(structs.replace(BEGINNING, tensors=tensors), CARRIED, first)
    ledger.take_epoch(2_000_001)
    learned = {ClientId("ann"): Known(invited=1, answered=1, label="phone")}
    ledger.open_round(RoundId(1), opening("ann", "bob"))
    ledger.close_round(record(1, "ann"), (), CARRIED, first, learned)
    ledger.open_round(RoundId(2), opening("ann", "bob"))
    told = Report(samples=9, loss=0.25, took_s=0.5)
    author = Author(b"k" * 32, b"t" * 64)
    bob = Named(ClientId("bob"), RoundId(2))
    answer = Kept(bob, message=b"message", report=told, author=author)
    ledger.keep(answer, 40.0, None)
    ledger.refuse(RoundId(2), Refusals(declined={ClientId("ann"): "on battery"}, rejected={}))
    ledger.close()
    return path


def _copied(database: bytes) -> Path:
    run = folder("run")
    shutil.rmtree(run, ignore_errors=True)
    (run / "models").mkdir(parents=True)
    shutil.copy(_run() / "models" / "0.safetensors", run / "models")
    (run / "ledger.db").write_bytes(database)
    return run


def _recovered(run: Path) -> None:
    """As a coordinator that goes on with it reads it."""
    found: list[LedgerError] = []
    ledger = Ledger(run, lambda then: then(), found.append, durable=False)
    try:
        ledger.epoch(), ledger.is_finished()
        recovered = recovery.read(ledger, run)
        if recovered is None:
            raise MadeNothing
        bytes_of = [kept.message for kept in ledger.kept()]
        assert all(one is None or isinstance(one, bytes) for one in bytes_of)
        recovery.state(
            0.0,
            round_rules.from_config(FederationConfig(name="ward-7", task="digits")),
            recovered.carried,
            recovered.settled,
            recovered.open_round,
            recovered.unused,
        )
    finally:
        ledger.close()


def _ledger(data: bytes) -> None:
    _recovered(_copied(data))


def _database() -> bytes:
    return (_run() / "ledger.db").read_bytes()


_CELLS = (
    *(f"UPDATE fact SET value = ? WHERE name = '{name}'" for name in ("beginning", "carried")),
    *(f"UPDATE fact SET value = ? WHERE name = '{name}'" for name in ("checkpoint", "epoch")),
    *(f"UPDATE round SET {column} = ? WHERE number = 1" for column in ("opening", "record")),
    *(f"UPDATE round SET {column} = ? WHERE number = 2" for column in ("opening", "refusals")),
    "UPDATE round SET closes_in_s = ? WHERE number = 2",
    *(f"UPDATE answer SET {column} = ?" for column in ("client", "message", "file")),
    *(f"UPDATE answer SET {column} = ?" for column in ("report", "author")),
    "UPDATE client SET known = ?",
)


def _cell(data: bytes) -> None:
    """The first byte tells which cell of the ledger has the rest in it, and as what."""
    if not data:
        raise MadeNothing
    run = _copied(_database())
    content: bytes | str | int | float | None = data[1:]
    kind = data[0] // len(_CELLS) % 4
    if kind == 1:
        content = data[1:].decode(errors="replace")
    elif kind == 2:
        content = int.from_bytes(data[1:8], signed=True)
    elif kind == 3:
        content = None
    with closing(sqlite3.connect(run / "ledger.db")) as db, suppress(sqlite3.IntegrityError), db:
        db.execute(_CELLS[data[0] % len(_CELLS)], (content,))
    _recovered(run)


def _cells() -> list[bytes]:
    found = []
    with closing(sqlite3.connect(_run() / "ledger.db")) as db:
        for at, change in enumerate(_CELLS):
            table, column = change.split()[1], change.split()[3]
            where = change.partition(" WHERE ")[2] or "1"
            ((content,),) = db.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchall()
            if content is None:
                continue
            text = content if isinstance(content, bytes) else str(content).encode()
            kind = 0 if isinstance(content, bytes) else 1
            found.append(bytes([at + kind * len(_CELLS)]) + text)
    return found


def _standings(data: bytes) -> None:
    run = folder("quarantine-run")
    path = place("quarantine-run/quarantine/standings.json", data)
    found = quarantine_file.load(run)
    quarantine_file.save(run, found)
    assert quarantine_file.load(run) == found
    for term in quarantine_file.read(run, _NOON).terms.values():
        assert quarantine.until(term, _NOON)
    path.unlink()


def _held_against() -> list[bytes]:
    term = Term(began=_NOON, until=_NOON + 600, why="5 answers refused")
    found = {"ann": Standing(strikes=(_NOON,), last="junk"), "bob": Standing(terms=1, term=term)}
    return [msgspec.json.encode(found)]


def _order(data: bytes) -> None:
    run = folder("orders-run")
    path = place("orders-run/quarantine/orders/1.json", data)
    ((_, order),) = quarantine_file.orders(run)
    if order is None:
        raise MadeNothing
    path.write_bytes(msgspec.json.encode(order))
    assert quarantine_file.orders(run) == [(path, order)]
    assert quarantine_file.read(run, _NOON).standings.keys() <= {order.client}


def _given_orders() -> list[bytes]:
    term = Term(began=_NOON, until=None, why="drops its samples")
    orders = (Add(client=ClientId("ann"), term=term), Lift(client=ClientId("ann")))
    return [msgspec.json.encode(order) for order in orders]


# What the doctor reads


def _round_page(data: bytes) -> None:
    opened = clock.opened_at(data)
    if opened is None:
        raise MadeNothing
    assert opened.utcoffset() is not None


def _round_pages() -> list[bytes]:
    return [
        b'{"round":3,"opened":"2026-05-04T12:00:00+00:00"}',
        b'{"opened":"2026-05-04T12:00:00Z"}',
    ]


# A report's


def _history(data: bytes) -> None:
    path = _seed_folder("history")
    (path / "history.jsonl").write_bytes(data)
    _report(path)


def _lab(data: bytes) -> None:
    path = _seed_folder("lab")
    (path / "history.jsonl").write_bytes(b"".join(_lines()))
    (path / "lab.json").write_bytes(data)
    _report(path)


def _shut_out(data: bytes) -> None:
    path = _seed_folder("shut_out")
    (path / "history.jsonl").write_bytes(b"".join(_lines()))
    (path / "quarantine").mkdir(exist_ok=True)
    (path / "quarantine" / "standings.json").write_bytes(data)
    _report(path)


def _report(path: Path) -> None:
    runs = run_files.read_runs([path], lambda share: None)
    assert run_page.page(runs, run_page.default_title(runs), "fedmqtt report")


def _lines() -> list[bytes]:
    shut_out = {"quarantined": {"dan": "a flood"}}
    lines = (line(number, 10.0 * number, **shut_out) for number in (1, 2))
    return [json.dumps(one).encode() + b"\n" for one in lines]


def _histories() -> list[bytes]:
    return [b"".join(_lines()), _lines()[0]]


def _shut_outs() -> list[bytes]:
    term = {"began": 1e9, "until": 1e9 + 600, "why": "a flood"}
    return [
        json.dumps({"dan": {"term": term}, "cat": {"strikes": [1e9], "last": "noise"}}).encode(),
        json.dumps({"dan": {"term": term | {"until": 1e300}, "by_hand": True}}).encode(),
    ]


def _labs() -> list[bytes]:
    page = {
        "mode": "virtual",
        "title": "storms",
        "clients": [{"client": "ann", "samples": 3, "label_counts": [1, 2], "online_share": 0.5}],
        "rounds": [{"round": 1, "closed_s": 5.0, "bytes_up": 7, "bytes_down": 9}],
        "weather": {"loss": 0.1},
        "repeat": "fedmqtt simulate fleet.toml",
    }
    return [json.dumps(page).encode()]


def _book(data: bytes) -> None:
    """As it is behind its hash: without that, nothing of it would be looked at."""
    state = folder("keyholder")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    checked_file.write(state / "book", [data])
    found = Book(state, "demo", "kh-a", lambda: 0.0)
    again = Book(state, "demo", "kh-a", lambda: 0.0)
    assert found.lists == again.lists


def _books() -> list[bytes]:
    state = folder("keyholder")
    shutil.rmtree(state, ignore_errors=True)
    made = Book(state, "demo", "kh-a", lambda: 0.0)
    made.make_ahead(0, 1, 60.0)
    plain = bytes(checked_file.read(state / "book"))
    listed = Listed(
        number=1, digest=bytes(32), run=RUN, round=RoundId(1), clients=3, held=(1, 2), seeds=(1,)
    )
    made.write_down(listed)
    made.finish(structs.replace(listed, digests=(bytes(32), bytes(32))))
    return [plain, bytes(checked_file.read(state / "book"))]


def _participations(data: bytes) -> None:
    """As behind its hash. What cannot be read is a reason to refuse, and never an error."""
    state = folder("participations")
    shutil.rmtree(state, ignore_errors=True)
    counted = Participations(state)
    counted.count(_COUNTED)
    (path,) = state.iterdir()
    checked_file.write(path, [data])
    if counted.spent(_COUNTED):
        raise MadeNothing
    counted.count(_COUNTED)
    # Once it counts, it has counted.
    assert not counted.spent(_COUNTED)


def _counts() -> list[bytes]:
    state = folder("participations")
    shutil.rmtree(state, ignore_errors=True)
    Participations(state).count(_COUNTED)
    (path,) = state.iterdir()
    return [bytes(checked_file.read(path)), b"\x80"]


def _taken(data: bytes) -> None:
    """As behind its hash. What cannot be read is told of, and its key is used no more."""
    state = folder("taken")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    checked_file.write(state / "5", [data])
    found = TakenFiles(state)
    if found.damaged:
        raise MadeNothing
    found.write(5, found.of_keys[5])
    assert TakenFiles(state).of_keys == found.of_keys


def _takings() -> list[bytes]:
    state = folder("taken")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    TakenFiles(state).write(5, taken.by(_SEVERAL, None))
    return [bytes(checked_file.read(state / "5"))]


DECODERS = [
    Decoder("taken", _taken, _takings, (), is_slow=True),
    Decoder("participations", _participations, _counts, (NotCounted,), is_slow=True),
    Decoder("keyholders_book", _book, _books, (BookError,), is_slow=True),
    Decoder("device_memory", _memory, _memories, beside_bytes=4 * 1024 * 1024),
    Decoder("personal_layers", _layers, _kept_layers),
    Decoder("outbox", _outbox, _answers, beside_bytes=4 * 1024 * 1024),
    Decoder("trainer_says", _said, _words, (PipeError,), beside_bytes=1024 * 1024),
    Decoder("trainer_hears", _ordered, _orders, (PipeError,), beside_bytes=1024 * 1024),
    Decoder("checkpoint", _checkpoint, _checkpoints, (CheckpointError,)),
    Decoder(
        "ledger",
        _ledger,
        lambda: [_database()],
        _DAMAGED,
        beside_bytes=4 * 1024 * 1024,
        is_slow=True,
    ),
    Decoder("ledger_cell", _cell, _cells, _DAMAGED, beside_bytes=4 * 1024 * 1024, is_slow=True),
    Decoder("standings", _standings, _held_against, (LedgerError,)),
    Decoder("order", _order, _given_orders),
    Decoder("round_page", _round_page, _round_pages),
    Decoder(
        "history", _history, _histories, (ReportError,), beside_bytes=4 * 1024 * 1024, is_slow=True
    ),
    Decoder(
        "shut_out",
        _shut_out,
        _shut_outs,
        (ReportError,),
        beside_bytes=4 * 1024 * 1024,
        is_slow=True,
    ),
    Decoder("lab_page", _lab, _labs, (ReportError,), beside_bytes=4 * 1024 * 1024, is_slow=True),
]

"""A run's ledger moves from its folder to a server, once, when `ledger` of the settings says so.

    ledger.db: "on its way to S" ──▶ S, in one transaction: all rows, and ──▶ ledger.db: "at S"
                                     the files of the run's folder

From the first word on nobody goes on with the run from the file. Where the program was killed
before the transaction was over, the server knows nothing of the run, and who starts next with that
server moves it again; where it was killed after it, the server has the run.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from coordinator.models.object_store import ObjectStore
from coordinator.persistence import file_pieces, sqlite_storage
from coordinator.persistence.ledger import ANSWERS, Beginning
from coordinator.persistence.run_errors import LedgerDamaged, LedgerError
from coordinator.persistence.shared_files import NOISE_KEY, name_of
from coordinator.persistence.sqlite_storage import MOVED, SqliteStorage
from coordinator.persistence.storage import Database, Storage
from fedmqtt import unreadable
from fedmqtt.topics import RunId

_COLUMNS = {
    "fact": "name, value",
    "round": "number, opening, closes_in_s, refusals, record",
    "client": "name, known",
    "participation": "name, count",
    "sum": "round, file",
}
"""Of each table but one the rows, in the order in which a copy of it has to be written."""
_OF_ANSWERS = "round, client, message, file, counted_in, report, author, summed"
_FILES = ("models", "kept", "memory", "published", "bases")

_log = logging.getLogger("coordinator")


class Move(Struct, frozen=True, kw_only=True):
    """What a ledger in a folder tells of where it went."""

    to: str
    """The server, as it is shown to people."""
    is_done: bool


def of(folder: Path) -> Move | None:
    """Of the ledger in this folder; None where it has not begun to move, or there is none."""
    found = sqlite_storage.fact(folder, MOVED)
    return None if found is None else msgspec.json.decode(found, type=Move)


def move(folder: Path, there: Storage, to: str, objects: ObjectStore | None) -> None:
    """Move it `there`: onto a server that knows nothing of this run yet, and is shown to people
    as `to`. Models go to `objects` where there is such a store.

    The folder must be ours. Raises LedgerError, and OSError where a file cannot be read or put.
    """
    with closing(_opened(folder)) as here:
        run = _run(folder)
        _tell(here, Move(to=to, is_done=False))
        try:
            _copy(here, there, folder, run, objects)
        except LedgerError:
            # The server went away for good: nobody knows whether it has the run.
            raise
        except Exception as bad:
            _write(here, "DELETE FROM fact WHERE name = ?", (MOVED,))
            if isinstance(bad, OSError):
                raise
            # Each database has errors of its own.
            side = here if isinstance(bad, sqlite_storage.ERRORS) else there
            raise LedgerError(f"ledger {side.name}: {side.explain(bad)}") from bad
        _tell(here, Move(to=to, is_done=True))
    _log.info("the ledger of %s has moved to %s: the run goes on there", folder, to)


def arrived(folder: Path, to: str) -> None:
    """The server `to` has the run. Where the program was killed before the folder said so, say it
    now: once a run has gone on there, no loss of that server brings this ledger back.

    The folder must be ours. Raises LedgerError.
    """
    found = of(folder)
    if found is None or found.is_done or found.to != to:
        return
    with closing(_opened(folder)) as here:
        _tell(here, Move(to=to, is_done=True))


def _opened(folder: Path) -> SqliteStorage:
    try:
        return SqliteStorage(folder)
    except sqlite_storage.ERRORS as bad:
        said = sqlite_storage.explain(bad, folder)
        raise LedgerDamaged(f"ledger {folder / sqlite_storage.FILE}: {said}") from bad


def _run(folder: Path) -> RunId:
    """By which the ledger in this folder knows its run, and an object store its files."""
    found = sqlite_storage.fact(folder, "beginning")
    try:
        return msgspec.json.decode(found or b"", type=Beginning).run
    except unreadable.MESSAGE as bad:
        raise LedgerDamaged(f"ledger {folder / sqlite_storage.FILE}: {bad}") from bad


def _copy(
    here: Storage, there: Storage, folder: Path, run: RunId, objects: ObjectStore | None
) -> None:
    files = {name_of(folder, path): path for path in _files(here, folder)}
    addresses = {
        name: objects.put(run, name, path)
        for name, path in files.items()
        if objects is not None and name != NOISE_KEY and not name.startswith(ANSWERS)
    }

    def write(db: Database) -> None:
        for table, columns in _COLUMNS.items():
            order = "number" if table in ("round", "sum") else "name"
            rows = here.rows(f"SELECT {columns} FROM {table} ORDER BY {order}")
            _add(db, table, columns, [row for row in rows if row[0] != MOVED])
        # One at a time: all of them may be more than there is memory.
        for came in here.rows("SELECT came FROM answer ORDER BY came"):
            rows = here.rows(f"SELECT {_OF_ANSWERS} FROM answer WHERE came = ?", came)
            _add(db, "answer", _OF_ANSWERS, rows)
        for name, path in files.items():
            if name in addresses:
                digest = file_pieces.digest_of(path)
                file_pieces.lies_elsewhere(db, name, digest, addresses[name])
            else:
                file_pieces.write(db, name, path)

    there.commit(write)


def _files(here: Storage, folder: Path) -> Iterator[Path]:
    """All that who goes on with the run elsewhere may need: what it does not is forgotten there."""
    for each in _FILES:
        yield from sorted((folder / each).glob("*"))
    if (key := folder / NOISE_KEY).exists():
        yield key
    named = "SELECT file FROM answer WHERE file IS NOT NULL UNION SELECT file FROM sum"
    for (name,) in here.rows(named):
        yield folder / ANSWERS / str(name)


def _add(db: Database, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    values = ", ".join("?" for _ in columns.split(","))
    db.run_many(f"INSERT INTO {table} ({columns}) VALUES ({values})", rows)


def _tell(here: Storage, told: Move) -> None:
    _write(
        here,
        "INSERT INTO fact (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (MOVED, msgspec.json.encode(told)),
    )


def _write(here: Storage, what: str, row: tuple[str | bytes, ...]) -> None:
    try:
        here.commit(lambda db: db.run(what, row))
    except sqlite_storage.ERRORS as bad:
        raise LedgerError(f"ledger {here.name}: {here.explain(bad)}") from bad

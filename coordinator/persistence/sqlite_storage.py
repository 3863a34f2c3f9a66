"""The ledger in a file of the run's folder: SQLite with a write-ahead log."""

import errno
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from coordinator.persistence import ledger_tables
from coordinator.persistence.ledger_tables import SQLITE, VERSION
from coordinator.persistence.storage import Database, Row

FILE = "ledger.db"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# The second where SQLite quotes what is no UTF-8: the name of a table that is damaged, say.
ERRORS = (sqlite3.Error, UnicodeDecodeError)


class SqliteStorage:
    """Raises one of ERRORS."""

    is_elsewhere = False

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """`durable=False` does not force anything to the disk: to measure what that costs."""
        self._folder = folder
        self._connection = _open(folder / FILE, durable=durable)

    @property
    def name(self) -> str:
        return str(self._folder / FILE)

    def commit(self, work: Callable[[Database], None]) -> None:
        with self._connection:
            self._connection.execute("BEGIN")
            work(self)

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(statement, values)

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._connection.executemany(statement, rows)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def explain(self, bad: BaseException) -> str:
        return explain(bad, self._folder)

    def is_damage(self, bad: BaseException) -> bool:
        return is_damage(bad)

    def end_soon(self) -> None:
        """A disk does not come back."""

    def close(self) -> None:
        self._connection.close()


def explain(bad: BaseException, folder: Path) -> str:
    """With how much is free, where a lack of it may be what is wrong."""
    said = str(bad) if isinstance(bad, Exception) and str(bad) else repr(bad)
    # SQLite says "disk I/O error" of much that is only a lack of room. The disk may be gone.
    number = bad.errno if isinstance(bad, OSError) else None
    if number in _FULL or _code(bad) in _DISK_CODES:
        with suppress(OSError):
            return f"{said} ({shutil.disk_usage(folder).free // 10**6} MB free there)"
    return said


def is_damage(bad: BaseException) -> bool:
    return _code(bad) in _DAMAGE_CODES


def facts(folder: Path) -> frozenset[str]:
    """The names of those that the ledger in this folder holds; none where there is no ledger."""
    path = folder / FILE
    if not path.exists():
        return frozenset()
    try:
        # Not by hand: "#", "?" and "%" mean something in it.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            # Without its tables it is of a program that ended before it had made them: on a full
            # disk, say.
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'fact'").fetchall():
                return frozenset()
            return frozenset(name for (name,) in db.execute("SELECT name FROM fact").fetchall())
    except ERRORS:
        # Not ours to judge here: whoever opens it says what is wrong.
        return frozenset({"beginning"})


def _code(bad: BaseException) -> int | None:
    """The primary one: what is above its lowest byte only tells it more exactly."""
    # None where SQLite has not said it, but its Python module or we.
    code = getattr(bad, "sqlite_errorcode", None) if isinstance(bad, sqlite3.Error) else None
    return None if code is None else code & 0xFF


def _open(path: Path, *, durable: bool) -> sqlite3.Connection:
    # Used by the writer, and by the caller while the writer has nothing to do.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on the disk when it returns. (NORMAL forces the log only now and then.)
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            first = "; ".join(ledger_tables.tables(SQLITE))
            db.executescript(f"BEGIN; {first}; PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"its tables have version {version}, not {VERSION}")
        db.executescript(";".join(ledger_tables.later_tables(SQLITE)))
        there = {name for _, name, *_ in db.execute("PRAGMA table_info(answer)")}
        for name, kind in ledger_tables.later_columns(SQLITE).items():
            if name not in there:
                db.execute(f"ALTER TABLE answer ADD COLUMN {name} {kind}")
    except ERRORS:
        db.close()
        raise
    return db

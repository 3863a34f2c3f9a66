"""The ledger on a PostgreSQL server: a schema for each run, and one row that tells whose it is.

    fedmqtt.run         id │ federation │ name │ holder │ fence │ written
    fedmqtt_run_<id>    the ledger's own tables

*One program writes.* Who takes a run counts its `fence` up. Every transaction begins by counting
`written` up in the row that has our fence: where there is none, another program has taken the run,
and nothing is written. No clock and no lease is in it, and a program that slept for a day cannot
write either.

*Who lives is told by a lock* of the session, which the server takes back when the connection ends.
A standby waits for it. It is a sign of life, and protects nothing: the fence does.

*A commit whose answer was lost* was written or not: `written` tells which. Also where the server
that comes back is a copy that has not got all that was confirmed.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, LiteralString, NoReturn

import psycopg
from psycopg import sql

from coordinator.persistence import ledger_tables, patient_sleep, postgresql
from coordinator.persistence.ledger_tables import POSTGRESQL, VERSION
from coordinator.persistence.postgresql import Connection
from coordinator.persistence.run_errors import LedgerDamaged, LedgerError, LedgerTaken
from coordinator.persistence.storage import Database, Row
from fedmqtt.effects import Seconds

LOCK_CLASS = 0x66656464
"""The first number of each advisory lock of ours; the second is the run's."""

FIRST_WAIT_S, WAIT_MAX_S = 0.1, 3.0
END_WITHIN_S = 10.0

_log = logging.getLogger("coordinator")


class PostgresqlStorage:
    """Of a run that this program has just taken."""

    is_elsewhere = True

    def __init__(
        self,
        url: str,
        db: Connection,
        run: int,
        name: str,
        fence: int,
        gives_up: Callable[[], bool],
    ) -> None:
        """`db` is the connection that has the run's lock; it is closed with this. `gives_up` is
        asked while the server is away: whether to wait any longer. Raises psycopg.Error."""
        self._url = url
        self._run = run
        self._run_name = name
        self._fence = fence
        self._gives_up = gives_up
        self._end_by: Seconds | None = None
        self._enter(db)
        ((self._written,),) = db.execute(
            "SELECT written FROM fedmqtt.run WHERE id = %s", (run,)
        ).fetchall()
        with db.transaction():
            _make_tables(db)

    @property
    def name(self) -> str:
        return f"{postgresql.name(self._url)}, run {self._run_name}"

    def commit(self, work: Callable[[Database], None]) -> None:
        number = self._written + 1
        while True:
            try:
                with self._db.transaction():
                    self._count(number)
                    work(_Transaction(self._db))
            except psycopg.Error as bad:
                if not postgresql.is_lost(bad, self._db):
                    raise
                if self._come_back(bad) != number:
                    continue
            self._written = number
            return

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        while True:
            try:
                return _Transaction(self._db).rows(statement, values)
            except psycopg.Error as bad:
                if not postgresql.is_lost(bad, self._db):
                    raise
                self._come_back(bad)

    def explain(self, bad: BaseException) -> str:
        return postgresql.sentence(bad)

    def is_damage(self, bad: BaseException) -> bool:
        return isinstance(bad, psycopg.errors.UndefinedTable | psycopg.errors.DataCorrupted)

    def end_soon(self) -> None:
        self._end_by = time.monotonic() + END_WITHIN_S

    def close(self) -> None:
        """And leave nothing of a run that never began. May be called again."""
        if self._db.closed:
            return
        try:
            with self._db.transaction():
                begun = self._db.execute("SELECT 1 FROM fact WHERE name = 'beginning'").fetchone()
                if begun is None:
                    ours = "DELETE FROM fedmqtt.run WHERE id = %s AND fence = %s"
                    if self._db.execute(ours, (self._run, self._fence)).rowcount:
                        drop = sql.SQL("DROP SCHEMA {} CASCADE").format(_schema(self._run))
                        self._db.execute(drop)
        except psycopg.Error as bad:
            _log.debug("%s: %s", self.name, postgresql.sentence(bad))
        finally:
            self._db.close()

    def _count(self, number: int) -> None:
        counted = self._db.execute(
            "UPDATE fedmqtt.run SET written = %s WHERE id = %s AND fence = %s AND written = %s",
            (number, self._run, self._fence, number - 1),
        )
        if counted.rowcount != 1:
            self._look(self._db, number - 1)
            raise AssertionError("nobody else has this fence")

    def _enter(self, db: Connection) -> None:
        db.execute(sql.SQL("SET search_path TO {}").format(_schema(self._run)))
        self._db, self._session = db, db.info.backend_pid

    # The server is away

    def _come_back(self, lost: BaseException) -> int:
        """How many transactions were written, once there is a connection again with our lock.

        Raises LedgerError where it is not waited for any more, or the run is not ours any more.
        """
        began_at = time.monotonic()
        why = postgresql.sentence(lost)
        _log.warning(
            "ledger %s is away: %s; nothing is acknowledged until it is back", self.name, why
        )
        self._db.close()
        wait_s = FIRST_WAIT_S
        while True:
            self._sleep(wait_s, why)
            wait_s = min(2 * wait_s, WAIT_MAX_S)
            try:
                db = postgresql.connect(self._url)
            except psycopg.Error as bad:
                if (said := postgresql.sentence(bad)) != why:
                    _log.warning("ledger %s is still away: %s", self.name, said)
                    why = said
                continue
            try:
                written = self._look(db, self._written)
                if self._has_lock_again(db):
                    self._enter(db)
                    away_s = time.monotonic() - began_at
                    _log.info("ledger %s is back after %.1f s", self.name, away_s)
                    return written
                db.close()
            except psycopg.Error as bad:
                db.close()
                if not postgresql.is_lost(bad, None):
                    raise
            except LedgerError:
                db.close()
                raise

    def _has_lock_again(self, db: Connection) -> bool:
        if locked(db, self._run):
            return True
        # The server may not have noticed yet that our old session is over.
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = %s AND objid = %s AND granted AND pid = %s",
            (LOCK_CLASS, self._run, self._session),
        )
        return False

    def _look(self, db: Connection, known: int) -> int:
        """How many transactions were written. Raises LedgerError unless the run is ours yet, and
        all of the `known` ones are among them."""
        found = db.execute(
            "SELECT fence, written, holder FROM fedmqtt.run WHERE id = %s", (self._run,)
        ).fetchone()
        if found is None:
            raise LedgerDamaged(f"ledger {self.name}: it is not there any more")
        fence, written, holder = found
        if fence > self._fence:
            raise LedgerTaken(
                f"ledger {self.name}: {holder} has gone on with the run meanwhile, and nothing more"
                " is written here"
            )
        if fence < self._fence or written < known:
            raise LedgerDamaged(
                f"ledger {self.name} is older than what it had confirmed: a copy of the server took"
                " its place that had not got all of it"
            )
        return int(written)

    def _sleep(self, wait_s: Seconds, why: str) -> None:
        if not patient_sleep.sleep(wait_s, self._is_given_up):
            raise LedgerError(f"ledger {self.name} is away: {why}")

    def _is_given_up(self) -> bool:
        return self._gives_up() or (self._end_by is not None and time.monotonic() > self._end_by)


class _Transaction:
    def __init__(self, db: Connection) -> None:
        self._db = db

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._db.execute(_query(statement), values)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._db.execute(_query(statement), values).fetchall()

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._db.cursor() as cursor:
            cursor.executemany(_query(statement), rows)


def locked(db: Connection, run: int) -> bool:
    """Whether this session has the run's lock from now on."""
    ((got,),) = db.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_CLASS, run)).fetchall()
    return bool(got)


def make_schema(db: Connection, run: int) -> None:
    """For a new run's tables, if it is not there."""
    db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(_schema(run)))


def facts(db: Connection, run: int) -> frozenset[str]:
    """The names of those that this run's ledger holds."""
    return frozenset(str(name) for (name,) in _found(db, run, "SELECT name FROM {}", "fact"))


def records(db: Connection, run: int) -> list[bytes]:
    """Of all closed rounds, oldest first, as the ledger wrote them."""
    asked: LiteralString = "SELECT record FROM {} WHERE record IS NOT NULL ORDER BY number"
    return [bytes(record) for (record,) in _found(db, run, asked, "round")]


def _found(db: Connection, run: int, asked: LiteralString, table: str) -> list[tuple[Any, ...]]:
    name = sql.SQL(".").join((_schema(run), sql.Identifier(table)))
    try:
        return db.execute(sql.SQL(asked).format(name)).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        # Of a program that ended before it had made them.
        return []


def _schema(run: int) -> sql.Identifier:
    return sql.Identifier(f"fedmqtt_run_{run}")


def _make_tables(db: Connection) -> None:
    there = {
        str(name)
        for (name,) in db.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        )
    }
    if "fact" not in there:
        for statement in ledger_tables.tables(POSTGRESQL):
            db.execute(_query(statement))
        db.execute("CREATE TABLE version (number INTEGER NOT NULL)")
        db.execute("INSERT INTO version VALUES (%s)", (VERSION,))
    ((version,),) = db.execute("SELECT number FROM version").fetchall()
    if version != VERSION:
        _refuse(f"its tables have version {version}, not {VERSION}")
    for statement in ledger_tables.later_tables(POSTGRESQL):
        db.execute(_query(statement))
    for name, kind in ledger_tables.later_columns(POSTGRESQL).items():
        db.execute(_query(f"ALTER TABLE answer ADD COLUMN IF NOT EXISTS {name} {kind}"))


def _refuse(why: str) -> NoReturn:
    raise psycopg.DataError(why)


def _query(statement: str) -> LiteralString:
    """In psycopg's words. All statements are the ledger's own, and no value is part of one."""
    in_its_words: Any = statement.replace("%", "%%").replace("?", "%s")
    words: LiteralString = in_its_words
    return words

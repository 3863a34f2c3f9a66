"""The runs of a federation whose ledgers are on a PostgreSQL server: which there are, and whose."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg

from coordinator.config import FederationConfig
from coordinator.persistence import patient_sleep, postgresql, postgresql_storage
from coordinator.persistence.postgresql import Connection
from coordinator.persistence.postgresql_storage import FIRST_WAIT_S, WAIT_MAX_S, PostgresqlStorage
from coordinator.persistence.run_errors import LedgerError, RunInUse
from coordinator.persistence.run_place import Place, in_time
from fedmqtt.effects import Seconds
from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.messages import Purpose
from fedmqtt.settings import SettingsError

COMES_BACK_WITHIN_S = 4 * WAIT_MAX_S
"""So long a standby lets who had the run come back to a server that was away."""

_TABLES = """
CREATE SCHEMA IF NOT EXISTS fedmqtt;
CREATE TABLE IF NOT EXISTS fedmqtt.run (
    id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    federation TEXT NOT NULL,
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    written BIGINT NOT NULL,
    UNIQUE (federation, name)
)"""
_MAKING = 0
"""In the place of a run's number: the lock of who makes these tables."""

_log = logging.getLogger("coordinator")

_T = TypeVar("_T")


class OnServer:
    """As it is made, the server has to be there: later on it is waited for. Raises LedgerError
    where it is not, or does not let us in, and SettingsError on what no server understands."""

    def __init__(
        self, config: FederationConfig, gives_up: Callable[[], bool], purpose: Purpose = "train"
    ) -> None:
        self._federation = config.name
        self._kind = "" if purpose == "train" else f"{purpose}/"
        """Before the names of runs that are for something else. In no folder's name there is a
        slash."""
        self._url = config.ledger
        self._gives_up = gives_up
        self._came_back_at: Seconds | None = None
        try:
            self._db = self._connected()
        except psycopg.OperationalError as bad:
            raise LedgerError(f"ledger {self.name}: {postgresql.sentence(bad)}") from bad
        except (psycopg.Error, UnicodeError) as bad:
            raise SettingsError(f"ledger {self.name}: {postgresql.sentence(bad)}") from bad

    @property
    def name(self) -> str:
        return postgresql.name(self._url)

    @property
    def lost_hint(self) -> str:
        return f"{self.name} does not know of it: give the database that it was begun with"

    def facts(self, folder: Path) -> frozenset[str]:
        def look(db: Connection) -> frozenset[str]:
            run = self._number(db, folder)
            return frozenset() if run is None else postgresql_storage.facts(db, run)

        return self._looked(look)

    def newest_first(self, config: FederationConfig) -> Iterator[Path]:
        asked = "SELECT name FROM fedmqtt.run WHERE federation = %s"
        rows = self._looked(lambda db: db.execute(asked, (config.name,)).fetchall())
        found = [str(name) for (name,) in rows if str(name).startswith(self._kind)]
        # (Of training, those of other kinds are named otherwise.)
        names = in_time([name.removeprefix(self._kind) for name in found], config.name)
        return (Path(config.runs) / name for name in names)

    def records(self, folder: Path) -> list[bytes]:
        def look(db: Connection) -> list[bytes]:
            run = self._number(db, folder)
            return [] if run is None else postgresql_storage.records(db, run)

        return self._looked(look)

    def take(self, folder: Path) -> Place:
        storage = self._looked(lambda _: self._taken(folder))
        try:
            return Place(FolderLock(folder), storage)
        except FolderInUse as used:
            storage.close()
            raise RunInUse(str(used)) from used
        except OSError:
            storage.close()
            raise

    def may_be_free(self, folder: Path) -> bool:
        def look(db: Connection) -> bool:
            found = db.execute(
                "SELECT count(pid) FROM fedmqtt.run LEFT JOIN pg_locks ON locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid = %s AND objid = id AND granted WHERE federation = %s AND name = %s",
                (postgresql_storage.LOCK_CLASS, self._federation, self._named(folder)),
            ).fetchone()
            return found is None or found[0] == 0

        is_free = self._looked(look)
        if self._came_back_at is None:
            return is_free
        # Its holder lost the same server, and must have time to come back.
        return is_free and time.monotonic() > self._came_back_at + COMES_BACK_WITHIN_S

    def close(self) -> None:
        self._db.close()

    def _taken(self, folder: Path) -> PostgresqlStorage:
        """On a connection of its own, which has the lock."""
        db = postgresql.connect(self._url)
        try:
            with db.transaction():
                db.execute(
                    "INSERT INTO fedmqtt.run (federation, name, holder, fence, written)"
                    " VALUES (%s, %s, '', 0, 0) ON CONFLICT DO NOTHING",
                    (self._federation, self._named(folder)),
                )
                run = self._number(db, folder)
                assert run is not None
                postgresql_storage.make_schema(db, run)
            if not postgresql_storage.locked(db, run):
                raise RunInUse(f"run {folder.name} in {self.name} is in use by {_holder(db, run)}")
            ((fence,),) = db.execute(
                "UPDATE fedmqtt.run SET fence = fence + 1, holder = %s"
                " WHERE id = %s RETURNING fence",
                (f"{socket.gethostname()}, process {os.getpid()}", run),
            ).fetchall()
            return PostgresqlStorage(self._url, db, run, folder.name, fence, self._gives_up)
        except (psycopg.Error, RunInUse):
            db.close()
            raise

    def _number(self, db: Connection, folder: Path) -> int | None:
        found = db.execute(
            "SELECT id FROM fedmqtt.run WHERE federation = %s AND name = %s",
            (self._federation, self._named(folder)),
        ).fetchone()
        return None if found is None else int(found[0])

    def _named(self, folder: Path) -> str:
        return f"{self._kind}{folder.name}"

    def _connected(self) -> Connection:
        db = postgresql.connect(self._url)
        try:
            with db.transaction():
                (there,) = db.execute("SELECT to_regclass('fedmqtt.run')").fetchone() or (None,)
                if there is None:
                    # Two that make the same at once are in each other's way.
                    lock = (postgresql_storage.LOCK_CLASS, _MAKING)
                    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock)
                    db.execute(_TABLES)
        except psycopg.Error:
            db.close()
            raise
        return db

    def _looked(self, look: Callable[[Connection], _T]) -> _T:
        """What it finds, as soon as the server can be asked. Raises LedgerError."""
        wait_s, why = FIRST_WAIT_S, ""
        while True:
            try:
                if self._db.closed:
                    self._db = self._connected()
                found = look(self._db)
            except psycopg.Error as bad:
                said = postgresql.sentence(bad)
                if self._gives_up() or not postgresql.is_lost(bad, None):
                    raise LedgerError(f"ledger {self.name}: {said}") from bad
                if said != why:
                    _log.warning("ledger %s is away: %s", self.name, said)
                why = said
                self._db.close()
            else:
                if why:
                    self._came_back_at = time.monotonic()
                    _log.info("ledger %s is back", self.name)
                return found
            # Who gives up meanwhile tries once more, and hears what is wrong.
            patient_sleep.sleep(wait_s, self._gives_up)
            wait_s = min(2 * wait_s, WAIT_MAX_S)


def _holder(db: Connection, run: int) -> str:
    found = db.execute("SELECT holder FROM fedmqtt.run WHERE id = %s", (run,)).fetchone()
    return str(found[0]) if found is not None and found[0] else "another program"

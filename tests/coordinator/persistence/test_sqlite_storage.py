"""The ledger in SQLite: the disk is full or gone, the file is damaged or of another program."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coordinator.persistence import ledger_tables, ledgers
from coordinator.persistence.ledger import Kept, Ledger, Names, Refusals
from coordinator.persistence.ledger_tables import SQLITE
from coordinator.persistence.run_errors import LedgerError
from coordinator.persistence.sqlite_storage import SqliteStorage
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.ledger_books import (
    BEGINNING,
    CARRIED,
    CHECKPOINT,
    at_once,
    kept,
    named,
    opening,
)
from tests.patience import WITHIN_S


@contextmanager
def opened(
    folder: Path, on_failure: Callable[[LedgerError], None] = lambda failure: None
) -> Iterator[Ledger]:
    book = Ledger(folder, at_once, on_failure)
    try:
        yield book
    finally:
        book.close()


def begun(folder: Path) -> None:
    with opened(folder) as book:
        book.begin(BEGINNING, CARRIED, CHECKPOINT)


def connection(book: Ledger) -> sqlite3.Connection:
    assert isinstance(book._storage, SqliteStorage)
    return book._storage._connection


def test_a_ledger_of_before_that_was_kept_is_gone_on_with(tmp_path: Path) -> None:
    tmp_path.joinpath("answers").mkdir()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.executescript(";".join(ledger_tables.tables(SQLITE)))
        db.execute(f"PRAGMA user_version = {ledger_tables.VERSION}")
        db.execute("INSERT INTO answer (round, client, message) VALUES (1, 'ann', x'31')")
        db.commit()
    for _ in range(2):
        with opened(tmp_path) as book:
            assert book.known() == {}
            assert list(book.kept()) == [Kept(named("ann"), message=b"1")]


def test_what_waits_while_one_group_is_written_is_written_together(tmp_path: Path) -> None:
    begun(tmp_path)
    told: list[list[str]] = []
    first_is_written, go_on, all_told = threading.Event(), threading.Event(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        action()
        if not first_is_written.is_set():
            first_is_written.set()
            assert go_on.wait(WITHIN_S)

    def hear(names: Names) -> None:
        told.append([str(one.client) for one in names])

    book = Ledger(tmp_path, post)
    book.keep(kept("ann"), None, hear)
    assert first_is_written.wait(WITHIN_S)
    for client in ("bob", "cat", "dan"):
        book.keep(kept(client), None, hear)
    book.keep(kept("eve"), None, lambda _names: all_told.set())
    before = changes(tmp_path)
    go_on.set()
    assert all_told.wait(WITHIN_S)
    assert told == [["ann"], ["bob", "cat", "dan"]], "once for each transaction"
    assert changes(tmp_path) == before + 1, "one transaction for four answers"
    book.close()


def changes(folder: Path) -> int:
    """Commits that the write-ahead log holds: frames that end a transaction."""
    log = (folder / "ledger.db-wal").read_bytes()
    page = int.from_bytes(log[8:12])
    salt, frames = log[16:24], range(32, len(log), 24 + page)
    live = [log[start : start + 24] for start in frames if log[start + 8 : start + 16] == salt]
    return sum(int.from_bytes(frame[4:8]) != 0 for frame in live)


def test_a_full_disk_is_told_and_nothing_is_confirmed(tmp_path: Path) -> None:
    begun(tmp_path)
    failures: list[LedgerError] = []
    failed = threading.Event()

    def on_failure(failure: LedgerError) -> None:
        failures.append(failure)
        failed.set()

    told: list[str] = []
    with opened(tmp_path, on_failure) as book:
        # SQLite's own limit stands for a disk that is full: the error is the same.
        connection(book).execute("PRAGMA max_page_count = 12")
        book.keep(
            kept("ann", message=b"x" * 1_000_000), None, lambda names: told.append(str(names))
        )
        assert failed.wait(WITHIN_S)
        assert told == []
        assert "ledger.db" in str(failures[0]) and "full" in str(failures[0])
        with pytest.raises(LedgerError, match="full"):
            book.keep(kept("bob"), None, None)
        with pytest.raises(LedgerError, match="full"):
            book.epoch()
    with opened(tmp_path) as book:
        assert list(book.kept()) == []


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db: file is not a database"):
        Ledger(tmp_path, at_once)
    assert ledgers.is_unfinished(tmp_path), "it is for the coordinator to say what is wrong with it"


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        connection(book).execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="version 99, not 1"):
        Ledger(tmp_path, at_once)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("in the way")
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        Ledger(tmp_path, at_once)


def test_refusals_that_wait_are_written_once(tmp_path: Path) -> None:
    begun(tmp_path)
    first_is_written, go_on = threading.Event(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        first_is_written.set()
        assert go_on.wait(WITHIN_S)

    statements: list[str] = []
    book = Ledger(tmp_path, post)
    book.open_round(RoundId(1), opening("ann"))
    book.keep(kept("bob"), None, lambda _names: None)
    assert first_is_written.wait(WITHIN_S)
    connection(book).set_trace_callback(statements.append)
    for number in range(100):
        refused = {ClientId(f"c{one}"): "too far" for one in range(number + 1)}
        book.refuse(RoundId(1), Refusals(declined={}, rejected=refused))
    go_on.set()
    found = book.open_round_now()
    assert found is not None and len(found.refusals.rejected) == 100
    connection(book).set_trace_callback(None)
    book.close()
    assert sum("SET refusals" in statement for statement in statements) == 1


def test_a_disk_that_is_gone_ends_the_wait(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    begun(folder)
    part = tmp_path / "arrived"
    part.write_bytes(b"large")
    first_is_written, go_on = threading.Event(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        first_is_written.set()
        assert go_on.wait(WITHIN_S)

    book = Ledger(folder, post)
    book.keep(kept("bob"), None, lambda _names: None)
    assert first_is_written.wait(WITHIN_S)
    book.keep(Kept(named("ann"), file=part), None, None)
    shutil.rmtree(folder)
    go_on.set()
    with pytest.raises(LedgerError, match="No such file"):
        book.take_epoch(7)
    book.close()


@pytest.mark.parametrize("name", ["50% done", "a#b", "what?", "ä b"])
def test_a_run_is_found_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    begun(folder)
    with opened(folder) as book:
        book.finish()
    assert ledgers.has_begun(folder) and not ledgers.is_unfinished(folder)

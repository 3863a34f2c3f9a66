"""A run goes on with its ledger on a server: nothing is lost, and nobody goes on with it twice."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from coordinator import command
from coordinator.config import FederationConfig
from coordinator.models.object_store import ObjectStore
from coordinator.models.s3_store import S3Store
from coordinator.persistence import ledgers, moved_ledger, run_search, sqlite_storage
from coordinator.persistence.ledger import Kept, KeptModel, Ledger
from coordinator.persistence.ledgers import IN_FOLDERS
from coordinator.persistence.moved_ledger import Move
from coordinator.persistence.run_errors import LedgerError
from coordinator.persistence.shared_files import NOISE_KEY, SharedFiles
from coordinator.persistence.sqlite_storage import SqliteStorage
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.ledger_books import (
    BEGINNING,
    CARRIED,
    CHECKPOINT,
    NEXT,
    Books,
    at_once,
    books_at,
    kept,
    named,
    opening,
    record,
)
from tests.own_object_store import Store

MODELS = [KeptModel(round=RoundId(0), checkpoint=CHECKPOINT)]


@pytest.fixture
def books(database: str, tmp_path: Path) -> Iterator[Books]:
    """On the server; in the run's folder is one that has not moved yet."""
    with books_at(database, tmp_path) as found:
        _begin(found.folder)
        yield found


@contextmanager
def _in_folder(folder: Path) -> Iterator[Ledger]:
    book = Ledger(folder, at_once)
    try:
        yield book
    finally:
        book.close()


def _begin(folder: Path) -> None:
    """One round is over; in the second, three have answered, two of them by way of a worker."""
    for name, content in [("models/1", b"newest"), ("kept/0", b"first"), ("memory/1", b"moments")]:
        path = folder / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (folder / "model.safetensors").write_bytes(b"newest")
    (folder / NOISE_KEY).write_bytes(b"secret")
    with _in_folder(folder) as book:
        book.begin(BEGINNING, CARRIED, CHECKPOINT)
        book.take_epoch(7)
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(kept("bob"), 50.0, None)
        book.keep(kept("ann"), 50.0, None)
        ran = record(1, "ann", "bob")
        book.close_round(ran, [], CARRIED, NEXT, {}, {ClientId("ann"): 1}, MODELS)
        book.open_round(RoundId(2), opening("ann", "bob", "cat", "dan"))
        book.keep(kept("cat", 2, b"small"), 40.0, None)
        (large := folder / "large").write_bytes(b"large" * 300_000)
        book.keep(Kept(named("ann", 2), file=large), 30.0, None)
        (summed := folder / "s-1").write_bytes(b"a sum of two")
        book.keep_sum([(named("bob", 2), None), (named("dan", 2), None)], summed, 20.0, None)
        book.epoch()


def _told(book: Ledger) -> list[object]:
    """All that a coordinator asks its ledger for."""
    answers = [
        (one.named, None if one.is_summed else one.read(), one.is_summed) for one in book.kept()
    ]
    sums = [path.read_bytes() for path in book.sums(RoundId(2))]
    facts = [book.beginning(), book.carried(), book.checkpoint(), book.models(), book.epoch()]
    rounds = [book.records(), book.closed_rounds(), book.open_round_now()]
    return [answers, sums, facts, rounds, book.participations(), book.known()]


def _move(books: Books, objects: ObjectStore | None = None) -> None:
    held = books.among.take(books.folder)
    try:
        assert held.storage is not None
        moved_ledger.move(books.folder, held.storage, books.among.name, objects)
    finally:
        held.release()


def test_all_that_a_ledger_told_it_tells_on_the_server_also_in_another_folder(
    books: Books, tmp_path: Path
) -> None:
    with _in_folder(books.folder) as book:
        before = _told(book)
    assert run_search.choose(books.config, books.among, None, new=False) == (books.folder, True)
    assert run_search.has_to_move(books.folder, books.among)
    _move(books)
    assert not run_search.has_to_move(books.folder, books.among)
    assert run_search.choose(books.config, books.among, None, new=False) == (books.folder, True)
    elsewhere = tmp_path / "elsewhere" / books.folder.name
    elsewhere.mkdir(parents=True)
    with books.opened(folder=elsewhere) as book:
        assert _told(book) == before
        assert set(book.files()) == {
            "models/0.safetensors",
            "models/1.safetensors",
            "memory/1.safetensors",
            NOISE_KEY,
            "answers/2-ann",
            "answers/2-s-1",
        }
        book.fetch_file("models/0.safetensors", elsewhere / "first")
        assert (elsewhere / "first").read_bytes() == b"first"
        # New answers come after those that are there.
        book.keep(kept("eve", 2), 10.0, None)
        assert [one.named.client for one in book.kept()] == ["cat", "ann", "bob", "dan", "eve"]


def test_nobody_goes_on_with_the_ledger_that_was_left_in_the_folder(books: Books) -> None:
    _move(books)
    here = _by_folders(books)
    told = f"has moved to {books.among.name}: go on with it by that `ledger`"
    for chosen in (None, books.folder):
        with pytest.raises(SettingsError, match=told):
            run_search.choose(here, IN_FOLDERS, chosen, new=False)
    assert ledgers.has_begun(books.folder) and not ledgers.is_unfinished(books.folder)
    _, goes_on = run_search.choose(here, IN_FOLDERS, None, new=True)
    assert not goes_on


def test_a_move_that_was_broken_off_is_made_again_to_the_same_server_and_to_no_other(
    books: Books,
) -> None:
    _mark(books.folder, Move(to=books.among.name, is_done=False))
    with pytest.raises(SettingsError, match="was on its way, when that was broken off, to postg"):
        run_search.choose(_by_folders(books), IN_FOLDERS, None, new=False)
    assert run_search.choose(books.config, books.among, None, new=False) == (books.folder, True)
    _move(books)
    assert books.is_unfinished
    assert moved_ledger.of(books.folder) == Move(to=books.among.name, is_done=True)


def test_a_move_that_was_broken_off_to_another_server_is_not_made_to_this_one(books: Books) -> None:
    _mark(books.folder, Move(to="postgresql://ann@elsewhere/fleet", is_done=False))
    with pytest.raises(SettingsError, match="to postgresql://ann@elsewhere/fleet: go on with it"):
        run_search.choose(books.config, books.among, None, new=False)


def test_a_server_that_has_lost_a_run_is_not_given_the_older_one_of_the_folder(
    books: Books,
) -> None:
    _mark(books.folder, Move(to=books.among.name, is_done=True))
    with pytest.raises(SettingsError, match="does not know of it: give the database that it"):
        run_search.choose(books.config, books.among, None, new=False)


def test_a_move_whose_end_was_not_written_down_is_over_when_the_server_has_the_run(
    books: Books,
) -> None:
    _move(books)
    # Killed before the folder said so; and then the run goes on.
    _mark(books.folder, Move(to=books.among.name, is_done=False))
    held, shelf = books.among.take(books.folder), command.Shelf(books.among, None)
    command._move_ledger(books.folder, held, shelf)
    held.release()
    assert moved_ledger.of(books.folder) == Move(to=books.among.name, is_done=True)


def test_what_cannot_move_stays_as_it_was(books: Books) -> None:
    (books.folder / "answers" / "2-ann").unlink()
    with pytest.raises(FileNotFoundError):
        _move(books)
    assert not books.is_unfinished, "the server has nothing of it"
    assert ledgers.is_unfinished(books.folder)
    here = _by_folders(books)
    assert run_search.choose(here, IN_FOLDERS, None, new=False) == (books.folder, True)


def test_a_folder_that_cannot_be_written_is_told_of_and_the_run_stays(books: Books) -> None:
    """As on a disk that is full."""
    with closing(sqlite3.connect(books.folder / sqlite_storage.FILE)) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON fact"
            " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(LedgerError, match=r"ledger\.db: .*disk is full"):
        _move(books)
    assert not books.is_unfinished and moved_ledger.of(books.folder) is None
    assert ledgers.is_unfinished(books.folder, IN_FOLDERS)


def test_what_a_server_refuses_is_told_in_its_words_and_the_run_stays(books: Books) -> None:
    book = SqliteStorage(books.folder)
    # As no coordinator writes it; PostgreSQL has no such text.
    book.commit(lambda db: db.run("INSERT INTO client VALUES (?, ?)", ("nul\0", b"{}")))
    book.close()
    with pytest.raises(LedgerError, match="NUL"):
        _move(books)
    assert moved_ledger.of(books.folder) is None and ledgers.is_unfinished(books.folder)


def test_a_finished_run_stays_where_it_was(books: Books) -> None:
    with _in_folder(books.folder) as book:
        book.finish()
    assert not run_search.has_to_move(books.folder, books.among)
    _, goes_on = run_search.choose(books.config, books.among, None, new=False)
    assert not goes_on


def _by_folders(books: Books) -> FederationConfig:
    return FederationConfig(name="fleet", task="digits", runs=books.config.runs)


def _mark(folder: Path, told: Move) -> None:
    book = SqliteStorage(folder)
    moved_ledger._tell(book, told)
    book.close()


def test_models_go_to_the_store_where_there_is_one_and_secrets_do_not(
    books: Books, object_store: Store, store_address: str, tmp_path: Path
) -> None:
    objects = S3Store(store_address, object_store.endpoint, books.config.name, lambda: False)
    _move(books, objects=objects)
    keys = object_store.keys(store_address)
    assert {key.split("/")[1] for key in keys} == {BEGINNING.run}
    elsewhere = tmp_path / "elsewhere" / books.folder.name
    elsewhere.mkdir(parents=True)
    with books.opened(folder=elsewhere) as book:
        in_the_ledger = {name for name, file in book.files().items() if file.address is None}
        assert in_the_ledger == {NOISE_KEY, "answers/2-ann", "answers/2-s-1"}
        SharedFiles(book, elsewhere, objects).fetch_all(elsewhere / NEXT.file)
    assert (elsewhere / NEXT.file).read_bytes() == b"newest"

"""Where a run goes on or begins when the ledgers have moved to a server."""

import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from coordinator import command
from coordinator.persistence import ledgers, run_search
from coordinator.persistence.ledger import Ledger
from coordinator.persistence.ledgers import InFolders
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Purpose
from fedmqtt.settings import SettingsError
from tests.coordinator.ledger_books import (
    BEGINNING,
    CARRIED,
    CHECKPOINT,
    Books,
    at_once,
    books_at,
)


def _in_folder(books: Books, stamp: str, *, is_finished: bool) -> Path:
    """A run of before, with a ledger of its own."""
    folder = Path(books.config.runs) / f"fleet-{stamp}"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    book = Ledger(folder, at_once)
    book.begin(BEGINNING, CARRIED, CHECKPOINT)
    if is_finished:
        book.finish()
    book.close()
    return folder


def test_a_run_on_the_server_is_gone_on_with_in_a_folder_of_its_name(
    database: str, tmp_path: Path
) -> None:
    with books_at(database, tmp_path) as books:
        books.begin()
        chosen = run_search.choose(books.config, books.among, None, new=False)
        assert chosen == (books.folder, True)
        with books.opened() as book:
            book.finish()
        folder, goes_on = run_search.choose(books.config, books.among, None, new=False)
        assert (folder.exists(), goes_on) == (False, False)


def test_the_last_run_is_finished_whoever_has_taken_a_folder_for_the_next(
    database: str, tmp_path: Path
) -> None:
    with books_at(database, tmp_path) as books:
        assert run_search.finished_last(books.config, books.among) is None
        books.begin()
        assert run_search.finished_last(books.config, books.among) is None
        with books.opened() as book:
            book.finish()
        assert run_search.finished_last(books.config, books.among) == books.folder
        with books.opened(folder=books.folder.with_name("fleet-20320101-000000")) as book:
            assert run_search.finished_last(books.config, books.among) == books.folder
            book.begin(BEGINNING, CARRIED, CHECKPOINT)
            assert run_search.finished_last(books.config, books.among) is None


@pytest.mark.parametrize("purpose", ["evaluate", "describe"])
def test_runs_for_something_else_are_none_of_trainings_on_the_server(
    database: str, tmp_path: Path, purpose: Purpose
) -> None:
    """Their folders are others, and a server knows no folders."""
    with books_at(database, tmp_path) as books:
        books.begin()
        config = structs.replace(books.config, runs=str(tmp_path / "others"))
        with closing(ledgers.of(config, lambda: False, purpose)) as others:
            assert [*others.newest_first(config)] == []
            folder, goes_on = run_search.choose(config, others, None, new=False)
            assert not goes_on
            # Of the same name as that which trains.
            same = folder.with_name(books.folder.name)
            same.mkdir(parents=True)
            other = Books(same, config, others)
            other.begin()
            assert [*others.newest_first(config)] == [same]
            with other.opened() as book:
                book.finish()
            assert books.is_unfinished and not other.is_unfinished
        chosen = run_search.choose(books.config, books.among, None, new=False)
        assert chosen == (books.folder, True)


@pytest.mark.parametrize("purpose", ["evaluate", "describe"])
def test_one_for_something_else_that_no_server_knows_is_begun_anew_and_that_is_said(
    database: str, tmp_path: Path, purpose: Purpose, caplog: pytest.LogCaptureFixture
) -> None:
    with books_at(database, tmp_path) as books:
        # As before the server knew the runs of each purpose apart.
        books.begin()
        (books.folder / "model.safetensors").touch()
        with closing(ledgers.of(books.config, lambda: False, purpose)) as others:
            # Nor is an older one that never came to its end gone on with in its place.
            older = books.folder.with_name("fleet-20200101-000000")
            older.mkdir()
            Books(older, books.config, others).begin()
            assert [*others.newest_first(books.config)] == [older]
            folder, goes_on = run_search.choose(
                books.config, others, None, new=False, purpose=purpose
            )
            assert not goes_on and not folder.exists()
            told = f"{books.folder} holds a run, and {others.name} does not know of it"
            assert told in caplog.text and "another is begun" in caplog.text
            with pytest.raises(SettingsError, match="does not know of it"):
                run_search.choose(books.config, others, books.folder, new=False, purpose=purpose)


def _nothing() -> None:
    pass


class _Turns(EventLoop):
    """Does what happens in each turn; then it is told how much was looked at."""

    def __init__(self, turns: list[Callable[[], object]], looked: list[Path]) -> None:
        super().__init__()
        self._turns = turns
        self._looked = looked
        self.looks: list[int] = []
        """In each turn that is over."""

    def run_once(self, wait_max_s: Seconds | None = None) -> None:
        self.looks.append(len(self._looked))
        self._looked.clear()
        self._turns.pop(0)()


def test_who_waits_for_the_next_run_looks_once_at_all_where_the_last_one_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    facts = InFolders.facts

    def looking(self: InFolders, folder: Path) -> frozenset[str]:
        looked.append(folder)
        return facts(self, folder)

    monkeypatch.setattr(InFolders, "facts", looking)
    with books_at("sqlite", tmp_path) as books:
        days = [f"2030010{day}-000000" for day in range(2, 8)]
        *others, last = (_in_folder(books, day, is_finished=True) for day in days)
        begin_next = partial(_in_folder, books, "20300201-000000", is_finished=False)
        turns: list[Callable[[], object]] = [_nothing, partial(shutil.rmtree, last), _nothing]
        turns += [partial(shutil.rmtree, one) for one in others]
        with closing(_Turns([*turns, _nothing, begin_next], looked)) as loop:
            looked.clear()
            assert command._wait_for_next(loop, books.config, books.among, last)
        _, as_ever, all_runs, afterwards, *_ = loop.looks
        assert as_ever == afterwards < all_runs


def test_a_run_that_was_finished_in_its_folder_is_the_last_beside_a_server_too(
    database: str, tmp_path: Path
) -> None:
    with books_at(database, tmp_path) as books:
        last = _in_folder(books, "20310101-000000", is_finished=True)
        assert run_search.finished_last(books.config, books.among) == last
        books.begin()
        # Begun before that one.
        assert run_search.finished_last(books.config, books.among) == last


def test_a_run_whose_ledger_is_in_its_folder_is_gone_on_with_before_another_begins(
    database: str, tmp_path: Path
) -> None:
    with books_at(database, tmp_path) as books:
        older = _in_folder(books, "20310101-000000", is_finished=False)
        chosen = run_search.choose(books.config, books.among, None, new=False)
        # It has to move to the server: see test_moved_ledger.py.
        assert chosen == (older, True)
        _, goes_on = run_search.choose(books.config, books.among, None, new=True)
        assert not goes_on
        # What came after it is done, so nobody waits for the older one.
        _in_folder(books, "20310102-000000", is_finished=True)
        _, goes_on = run_search.choose(books.config, books.among, None, new=False)
        assert not goes_on


def test_a_folder_whose_run_no_server_knows_is_not_begun_anew(
    database: str, tmp_path: Path
) -> None:
    with books_at(database, tmp_path) as books:
        (books.folder / "model.safetensors").touch()
        with pytest.raises(SettingsError, match="does not know of it: give the database that it"):
            run_search.choose(books.config, books.among, None, new=False)

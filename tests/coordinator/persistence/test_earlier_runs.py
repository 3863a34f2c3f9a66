"""What earlier runs told of one device, of which a new run's budget knows nothing."""

from pathlib import Path

import pytest
from msgspec import structs

from coordinator.persistence import earlier_runs, history
from coordinator.persistence.ledgers import IN_FOLDERS
from fedmqtt.status_pages import Privacy
from fedmqtt.topics import RoundId
from tests.coordinator.ledger_books import CARRIED, NEXT, books_at, opening, record
from tests.coordinator.records import RECORD


def ran(folder: Path, *epsilons: float | None) -> Path:
    folder.mkdir()
    for number, epsilon in enumerate(epsilons, start=1):
        privacy = None if epsilon is None else of(epsilon)
        record = structs.replace(RECORD, round=RoundId(number), privacy=privacy)
        history.append(folder / "history.jsonl", record)
    return folder


def warning(*folders: Path) -> str:
    return earlier_runs.warning((folder, IN_FOLDERS) for folder in folders)


def of(epsilon: float) -> Privacy:
    return Privacy(
        epsilon=epsilon,
        delta=1e-5,
        epsilon_max=4.0,
        participations=1,
        participations_max=4,
        noise_multiplier=2.0,
        clip_norm=1.0,
    )


def test_what_runs_told_adds_up_each_with_what_it_came_to(tmp_path: Path) -> None:
    runs = [ran(tmp_path / "a", 1.0, 2.0), ran(tmp_path / "b", 1.0, 1.5, None)]
    assert warning(*runs) == (
        "before this run 2 runs told up to epsilon 3.5 of one device in all; this one has a budget"
        " of its own, and comes on top of that (deltas add up, too)"
    )
    assert "before this run 1 run told up to epsilon 1.5" in warning(*runs[1:])


def test_runs_that_told_nothing_are_none(tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    evaluated = ran(tmp_path / "a", 0.0) / "history.jsonl"
    history.append(evaluated, structs.replace(RECORD, outcome="evaluated"))
    assert warning(empty, tmp_path / "gone", tmp_path / "a") == ""


def test_what_runs_without_noise_told_is_not_left_out(tmp_path: Path) -> None:
    """Else the sum would look like all there was."""
    plain = ran(tmp_path / "plain", None)
    told = warning(plain, ran(tmp_path / "a", 1.0))
    assert "1 run told up to epsilon 1 of" in told
    assert told.endswith("; before this run 1 run had no noise: no epsilon bounds what was told")


def test_a_run_that_went_on_on_another_machine_is_told_to_its_end(
    database: str, tmp_path: Path
) -> None:
    """By the server where its ledger is: the file on this machine ends before."""
    with books_at(database, tmp_path) as books:
        books.begin()
        for number, folder in ((1, books.folder), (2, tmp_path / "other" / books.folder.name)):
            closed = structs.replace(record(number, "ann"), privacy=of(float(number)))
            with books.opened(folder=folder) as book:
                book.open_round(RoundId(number), opening("ann"))
                book.close_round(closed, (), CARRIED, NEXT)
            history.append(folder / "history.jsonl", closed)
        told = earlier_runs.warning(
            (folder, books.among) for folder in (books.folder, tmp_path / "fleet-20290101-000000")
        )
    assert told.startswith("before this run 1 run told up to epsilon 2 of")


def test_runs_in_folders_count_too_when_the_ledger_has_come_to_a_server(
    database: str, tmp_path: Path
) -> None:
    """And one that is in both, as it went on there, counts once."""
    before = ran(tmp_path / "fleet-20290101-000000", 1.0, 1.5)
    ran(tmp_path / "other-20290101-000000", 50.0)
    with books_at(database, tmp_path) as books:
        books.begin()
        with books.opened() as book:
            book.open_round(RoundId(1), opening("ann"))
            closed = structs.replace(record(1, "ann"), privacy=of(2.0))
            book.close_round(closed, (), CARRIED, NEXT)
        history.append(books.folder / "history.jsonl", closed)
        config = structs.replace(books.config, runs=str(tmp_path))
        found = [*earlier_runs.of(config, books.among)]
        told = earlier_runs.warning(found)
    assert [folder.name for folder, _ in found] == [books.folder.name, before.name]
    assert told.startswith("before this run 2 runs told up to epsilon 3.5 of")
    alone = [*earlier_runs.of(config, IN_FOLDERS)]
    assert alone == [(books.folder, IN_FOLDERS), (before, IN_FOLDERS)]


@pytest.mark.parametrize("line", [b"{}\n", b'{"outcome": "kept", "privacy": "\xff"}\n'])
def test_what_cannot_be_read_is_named(tmp_path: Path, line: bytes) -> None:
    """And a line that is not whole yet, as a kill leaves it, is no line."""
    (cut := ran(tmp_path / "cut", 1.0) / "history.jsonl").write_bytes(cut.read_bytes() + b'{"ro')
    ((bad := ran(tmp_path / "bad")) / "history.jsonl").write_bytes(line)
    told = warning(tmp_path / "cut", bad)
    assert "1 run told up to epsilon 1 of" in told
    not_known = f"what an earlier run told is not known, as its history cannot be read: {bad}"
    assert told.endswith(f"; {not_known}")
    assert warning(bad) == not_known

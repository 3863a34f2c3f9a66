"""What a run's folder holds is there after a loss of power, under its name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from coordinator.models import published_model
from coordinator.orders import NO_ORDERS
from coordinator.pacing import Pace
from coordinator.persistence.ledger import Beginning, Carried
from coordinator.persistence.run_folder import RunFolder
from fedmqtt.topics import RoundId
from fedmqtt.weights import Layout
from tests.coordinator.ledger_books import Books, at_once, books_at
from tests.coordinator.records import RECORD

LAYOUT = Layout((("w", (4,)),))
CARRIED = Carried(pace=Pace(over_selection=1.5, deadline_s=60.0), late=0, typical_s=0.0)


def test_a_model_that_stale_answers_need_reaches_the_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tmp_path / "bases"
    forced: list[Path] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        fsync(file)
        forced.append(Path(f"/proc/self/fd/{file}").readlink())

    monkeypatch.setattr(os, "fsync", watched)
    folder = RunFolder(tmp_path, lambda action: None, lambda failure: None)
    try:
        model = published_model.make(LAYOUT, np.ones(4, np.float32), 0, 1024)
        folder.begin(folder.name_run("t", LAYOUT), model, CARRIED)
        forced.clear()
        folder.keep_base(RoundId(1), RoundId(1))
    finally:
        folder.ledger.close()
    # With the name of the folder that it lies in.
    assert forced == [tmp_path, bases / "1.safetensors", bases]
    np.testing.assert_array_equal(folder.base_of(RoundId(1), LAYOUT), np.ones(4))


@contextmanager
def run_folder(books: Books, folder: Path) -> Iterator[RunFolder]:
    place = books.among.take(folder)
    run = RunFolder(folder, at_once, lambda failure: None, keeps_models=3, storage=place.storage)
    try:
        yield run
    finally:
        run.ledger.close()
        place.release()


def _model(value: int, trained: int) -> published_model.PublishedModel:
    return published_model.make(LAYOUT, np.full(4, value, np.float32), trained, 1024)


def _close(run: RunFolder, beginning: Beginning, number: int) -> None:
    closed = structs.replace(RECORD, round=RoundId(number))
    memory = {"velocity": np.full(4, number, np.float32)}
    model = _model(number, number)
    run.close_round(closed, (), CARRIED, model, beginning, strategy="s", memory=memory)


def test_all_that_a_run_needs_is_in_another_folder_too(tmp_path: Path, database: str) -> None:
    with books_at(database, tmp_path) as books:
        here, there = books.folder, tmp_path / "there" / books.folder.name
        there.mkdir(parents=True)
        with run_folder(books, here) as run:
            key = run.noise_key(is_new=True)
            beginning = run.name_run("t", LAYOUT)
            run.begin(beginning, _model(0, 0), CARRIED)
            for number in (1, 2):
                _close(run, beginning, number)
                run.keep_base(RoundId(number + 1), RoundId(number))
            kept, _, _ = run.read_model(RoundId(1), LAYOUT)
            run.go_back(kept, NO_ORDERS, remembers_clients=False)
        # Another model of that name, which a program left that lost the run.
        (there / "kept").mkdir()
        (there / "kept" / "1.safetensors").write_bytes(b"something else")
        with run_folder(books, there) as run:
            recovered = run.recover()
            assert recovered is not None and recovered.trained_rounds == 1
            np.testing.assert_array_equal(recovered.flat, np.ones(4))
            np.testing.assert_array_equal(recovered.memory["velocity"], np.ones(4))
            assert [one.round for one in run.ledger.models()] == [0, 1, 2]
            for number in (0, 1, 2):
                _, flat, _ = run.read_model(RoundId(number), LAYOUT)
                np.testing.assert_array_equal(flat, np.full(4, number))
            np.testing.assert_array_equal(run.base_of(RoundId(3), LAYOUT), np.full(4, 2))
            assert not run.has_base(RoundId(1)), "no longer needed"
            assert run.noise_key(is_new=False) == key
            assert (there / "noise.key").stat().st_mode & 0o777 == 0o600
            _close(run, beginning, 3)


def test_what_no_model_needs_any_more_is_forgotten(tmp_path: Path, database: str) -> None:
    with books_at(database, tmp_path) as books, run_folder(books, books.folder) as run:
        beginning = run.name_run("t", LAYOUT)
        run.begin(beginning, _model(0, 0), CARRIED)
        for number in range(1, 7):
            _close(run, beginning, number)
        names = {number for number in range(3, 7)}
        assert run.ledger.files().keys() == {
            f"{folder}/{number}.safetensors" for folder in ("models", "memory") for number in names
        }

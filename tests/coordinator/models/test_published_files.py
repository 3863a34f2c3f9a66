"""What clients were given outlives the coordinator, to the last bit, or is told to be damaged."""

from pathlib import Path

import numpy as np
import pytest

from coordinator.models import downlink, published_files, published_model
from coordinator.models.published_model import PublishedModel
from coordinator.persistence.ledger import PublishedFiles
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt.weights import Layout

LAYOUT = Layout((("w", (2000,)),))


@pytest.fixture
def model() -> PublishedModel:
    made = published_model.make(LAYOUT, np.zeros(2000, np.float32), 0, 1024)
    for seed in range(3):
        flat = np.random.default_rng(seed).normal(size=2000).astype(np.float32)
        made = downlink.following(made, flat, downlink.read("int4"))
    return made


@pytest.fixture
def saved(tmp_path: Path, model: PublishedModel) -> PublishedFiles:
    published_files.folder(tmp_path).mkdir()
    return published_files.save(tmp_path, model.ref.digest, model.file, model.deltas)


def test_what_was_saved_is_what_is_loaded(
    tmp_path: Path, model: PublishedModel, saved: PublishedFiles
) -> None:
    published, deltas = published_files.load(tmp_path, saved, LAYOUT)
    again = published_model.make_off(LAYOUT, model.flat, published, deltas, 3, 1024)
    assert again.file == model.file and again.ref == model.ref
    assert again.deltas == model.deltas and again.digest == model.digest
    assert published_files.paths(tmp_path, saved) == {*(tmp_path / "published").iterdir()}


def test_no_file_is_named_where_clients_have_the_model_itself(tmp_path: Path) -> None:
    assert published_files.paths(tmp_path, None) == set()


@pytest.mark.parametrize("ending", ["model", "delta"])
@pytest.mark.parametrize("damage", ["gone", "other"])
def test_a_file_that_is_not_what_it_was_is_named(
    tmp_path: Path, saved: PublishedFiles, ending: str, damage: str
) -> None:
    path = next((tmp_path / "published").glob(f"*.{ending}"))
    if damage == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    with pytest.raises(LedgerDamaged, match=path.name):
        published_files.load(tmp_path, saved, LAYOUT)


def test_a_model_of_other_tensors_is_refused(tmp_path: Path, saved: PublishedFiles) -> None:
    with pytest.raises(LedgerDamaged, match="layout"):
        published_files.load(tmp_path, saved, Layout((("v", (2000,)),)))

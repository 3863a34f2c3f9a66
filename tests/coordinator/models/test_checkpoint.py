"""Models on disk: what is written is what is read, and what is no model is refused."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from coordinator.models import checkpoint
from coordinator.models.checkpoint import CheckpointError
from fedmqtt.weights import Layout, layout_of

WEIGHTS = {
    "out.weight": np.array([[1.5, -2.0, 0.0], [3.0, 4.0, 5.0]], np.float32),
    "scale": np.full((), 7.0, np.float32),
}


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    layout = layout_of(WEIGHTS)
    flat = layout.flatten(WEIGHTS)
    checkpoint.save(path, layout, flat, {"run": "first"})
    found, numbers = checkpoint.load(path)
    loaded = found.unflatten(numbers)
    assert loaded.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        assert loaded[name].shape == array.shape and loaded[name].tobytes() == array.tobytes()
    with safetensors.safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["fedmqtt"]) == {"run": "first"}


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    layout = layout_of(WEIGHTS)
    about = {name: name for name in ("task", "run", "trained_rounds", "seed", "other")}
    files = set()
    for number in range(20):
        path = tmp_path / f"{number}.safetensors"
        checkpoint.save(path, layout, layout.flatten(WEIGHTS), about)
        files.add(path.read_bytes())
    assert len(files) == 1


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    layout = Layout((("w", (2,)),))
    for value in (1.0, 2.0):
        checkpoint.save(path, layout, np.full(2, value, np.float32), {})
    assert checkpoint.load(path)[1].tolist() == [2.0, 2.0]
    assert list(tmp_path.iterdir()) == [path]


def _bfloat16() -> bytes:
    # By hand: numpy has no such type, and this test no torch.
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    return struct.pack("<Q", len(header)) + header + bytes(4)


def _saved(array: NDArray[Any]) -> bytes:
    return safetensors.numpy.save({"w": array})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_saved(np.zeros(2, np.float16)), "w is F16, not F32"),
        (_saved(np.zeros(2, np.int64)), "w is I64, not F32"),
        (_bfloat16(), "w is BF16, not F32"),
        (_saved(np.array([1, np.nan], np.float32)), "w has values that are not finite"),
        (_saved(np.array([1, -np.inf], np.float32)), "w has values that are not finite"),
        (_saved(np.zeros((0, 3), np.float32)), "there are no numbers in it"),
        (safetensors.numpy.save({}), "there are no numbers in it"),
        (b"", "header"),
        (b"\xff" * 64, "header"),
    ],
)
def test_what_is_no_model_to_start_from_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "start.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"initial model {path}: .*{reason}"):
        checkpoint.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.safetensors"
    with pytest.raises(CheckpointError, match=f"initial model {path}: no such file"):
        checkpoint.load(path)


def test_a_model_that_is_shown_already_leaves_nothing_else_in_the_folder(tmp_path: Path) -> None:
    shown, newest = tmp_path / "model.safetensors", tmp_path / "0.safetensors"
    newest.write_bytes(b"model")
    for _ in range(2):
        checkpoint.show(shown, newest)
        assert sorted(tmp_path.iterdir()) == [newest, shown]
    newer = tmp_path / "1.safetensors"
    newer.write_bytes(b"newer")
    checkpoint.show(shown, newer)
    assert shown.read_bytes() == b"newer" and newest.read_bytes() == b"model"


def test_a_damaged_model_of_a_run_is_no_initial_one(tmp_path: Path) -> None:
    path = tmp_path / "3.safetensors"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"^model {path}: .*header"):
        checkpoint.load_as(path, layout_of(WEIGHTS))

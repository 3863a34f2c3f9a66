"""The picture of who holds what: it is drawn at every size, and shows where the samples are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_sim.split_picture import draw
from learning_tasks import split_data
from learning_tasks.seam import TaskError
from learning_tasks.split_data import Split
from round_monitor.picture import PictureError

DARKEST = (8, 48, 107)
"""One end of the scale: all of a client's samples."""


def _drawn(folder: Path, counts: list[list[int]], held_out: int = 0) -> NDArray[np.float32]:
    """The PNG for clients with so many samples of each class: (height, width, channels), 0 to 1."""
    sizes = [sum(row) for row in counts]
    split_data.write(
        Split(
            data_dir="",
            pool_digest="",
            clients=tuple(f"client-{i:04}" for i in range(len(counts))),
            train=tuple(np.arange(size - held_out) for size in sizes),
            held_out=tuple(np.arange(held_out) for _ in sizes),
            labels=tuple("abcdefghij"[: len(counts[0])]),
            label_counts=np.array(counts),
            label_means=np.array([np.average(range(len(row)), weights=row) for row in counts]),
            made_by="",
        ),
        folder,
    )
    draw(folder, folder / "split.png", "who holds what")
    pixels: Any = matplotlib.image.imread(folder / "split.png")
    return np.asarray(pixels, np.float32)


def _places(pixels: NDArray[np.float32], colour: tuple[int, int, int]) -> NDArray[np.int64]:
    """(count, 2): row and column of every pixel of that colour."""
    near = np.abs(pixels[:, :, :3] * 255 - np.array(colour)).max(axis=2) < 4
    return np.argwhere(near)


@pytest.mark.parametrize("clients", [1, 10, 100, 1000])
def test_every_size_of_fleet_is_drawn_on_the_same_canvas(tmp_path: Path, clients: int) -> None:
    chance = np.random.default_rng(0)
    pixels = _drawn(tmp_path, chance.integers(1, 90, (clients, 10)).tolist(), held_out=3)
    assert pixels.shape[:2] == (900, 1500)


def test_one_label_each_is_a_diagonal(tmp_path: Path) -> None:
    # 50 clients: too many to be named, so they are sorted by label, which they were not.
    pixels = _drawn(tmp_path, [[9 * (i % 5 == label) for label in range(5)] for i in range(50)])
    rows, columns = _places(pixels, DARKEST).T
    # Classes go up and clients to the right.
    assert np.corrcoef(rows, columns)[0, 1] < -0.9
    assert len(rows) > 0.1 * 900 * 1500 / 5


def test_few_clients_keep_their_order(tmp_path: Path) -> None:
    # The first holds the upper class: falling, where sorted by label it would rise.
    rows, columns = _places(_drawn(tmp_path, [[0, 5000], [5000, 0]]), DARKEST).T
    assert np.corrcoef(rows, columns)[0, 1] > 0.5


def test_a_thousand_columns_are_all_to_be_seen(tmp_path: Path) -> None:
    # One in ten holds class 1 alone: a tenth of the upper half is dark, nine tenths of the lower.
    pixels = _drawn(tmp_path, [[int(i % 10 != 0), int(i % 10 == 0)] for i in range(1000)])
    rows = _places(pixels, DARKEST)[:, 0]
    # Away from the edges: the top of the scale beside it is as dark.
    upper, lower = (round(rows.min() + part * np.ptp(rows)) for part in (0.2, 0.8))
    widths = [int((rows == at).sum()) for at in (upper, lower)]
    assert sum(widths) > 1000
    assert widths[0] / sum(widths) == pytest.approx(0.1, abs=0.01)


def test_what_is_held_out_is_told_from_what_is_trained_on(tmp_path: Path) -> None:
    pale = (207, 232, 247)
    without = len(_places(_drawn(tmp_path, [[50, 50]] * 60), pale))
    half = len(_places(_drawn(tmp_path, [[50, 50]] * 60, held_out=50), pale))
    assert half > without + 20_000


def test_targets_that_are_no_classes_cannot_be_drawn(tmp_path: Path) -> None:
    _drawn(tmp_path, [[2]])
    numbers = replace(split_data.read(tmp_path), labels=(), label_counts=np.zeros((1, 0), int))
    split_data.write(numbers, tmp_path)
    with pytest.raises(PictureError, match="its task has no CLASS_NAMES"):
        draw(tmp_path, tmp_path / "split.png", "numbers")


def test_a_folder_without_a_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no .*split\.npz"):
        draw(tmp_path, tmp_path / "split.png", "nothing")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    _drawn(tmp_path, [[1, 2]])
    with pytest.raises(PictureError, match=r"nowhere.*cannot be written: No such file"):
        draw(tmp_path, tmp_path / "nowhere" / "split.png", "nothing")

"""The picture of a run, from the history that its coordinator wrote."""

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from round_monitor.picture import PictureError, draw


def _line(number: int, **changes: object) -> dict[str, object]:
    accuracy = 1 - 0.8 / number
    metrics = {"accuracy": accuracy, "macro_f1": accuracy / 2}
    return {
        "round": number,
        "invited": ["ann", "bob", "cat", "dan"],
        "answered": ["ann", "bob"],
        "dropped": ["dan"],
        "declined": {},
        "rejected": {"cat": "stale"},
        "figures": {"clients": 2, "samples": 10, "metrics": metrics},
        "a_field_of_tomorrow": 1,
    } | changes


def _drawn(folder: Path, lines: list[dict[str, object]]) -> NDArray[np.float32]:
    """The PNG that `draw` makes: (height, width, channels), 0 to 1."""
    history, out = folder / "history.jsonl", folder / "rounds.png"
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw(history, out, "ward-7, run 20260301-101500")
    pixels: Any = matplotlib.image.imread(out)
    return np.asarray(pixels, np.float32)


def _share(pixels: NDArray[np.float32], colour: tuple[int, int, int]) -> float:
    near = np.abs(pixels[:, :, :3] * 255 - np.array(colour)).max(axis=2) < 8
    return float(near.mean())


BLUE, ORANGE, GREEN, RED = (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0)


@pytest.mark.parametrize("rounds", [1, 12, 200])
def test_it_is_1200_pixels_wide_and_shows_figures_and_clients(tmp_path: Path, rounds: int) -> None:
    pixels = _drawn(tmp_path, [_line(number) for number in range(1, rounds + 1)])
    assert pixels.shape[:2] == (900, 1200)
    # Two of four answered, one was rejected: the areas are as the counts.
    assert _share(pixels, GREEN) > 0.05
    assert 0.2 < _share(pixels, RED) / _share(pixels, GREEN) < 0.6
    for colour in (BLUE, ORANGE):
        assert _share(pixels, colour) > 0.0002


def test_rounds_without_figures_and_without_clients_are_drawn_too(tmp_path: Path) -> None:
    last = _line(2, invited=[], answered=[], dropped=[], rejected={})
    pixels = _drawn(tmp_path, [_line(1, figures=None), last])
    assert _share(pixels, GREEN) > 0.03
    assert _share(_drawn(tmp_path, [_line(1, figures=None)]), BLUE) == 0


def test_counts_in_place_of_names_are_drawn_the_same(tmp_path: Path) -> None:
    counted = _line(1, invited=4, answered=2, dropped=1, rejected=1)
    assert np.array_equal(_drawn(tmp_path, [counted]), _drawn(tmp_path, [_line(1)]))


@pytest.mark.parametrize(
    ("content", "why"),
    [("", "no round has been closed"), ("{", "truncated"), ('{"round": "x"}', "Expected `int`")],
)
def test_a_history_that_cannot_be_drawn_says_why(tmp_path: Path, content: str, why: str) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text(content)
    with pytest.raises(PictureError, match=why):
        draw(history, tmp_path / "out.png", "title")


def test_a_missing_history_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="nowhere"):
        draw(tmp_path / "nowhere.jsonl", tmp_path / "out.png", "title")
    history = tmp_path / "history.jsonl"
    history.write_text(json.dumps(_line(1)))
    with pytest.raises(PictureError, match="nowhere"):
        draw(history, tmp_path / "nowhere" / "out.png", "title")

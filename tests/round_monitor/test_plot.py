"""Curves made of characters: as wide and high as they should be, whatever values come."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from round_monitor.plot import plot


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    drawn = plot([(1, 0.0), (2, 0.5), (3, 1.0)], 20, 6, ascii_only=True)
    assert [line.rstrip() for line in drawn.lines] == [
        " 1.000|          ***",
        "      |     *****",
        "      |  ***",
        " 0.000|**",
        "      +-------------",
        "       1           3",
    ]


def test_braille_has_more_dots_than_there_are_characters() -> None:
    drawn = plot([(1, 1.0), (2, 0.0)], 20, 6)
    assert drawn.lines[0][drawn.label_width] == "⠑"
    assert drawn.lines[3].rstrip()[-1] == "⢄"


def test_a_flat_curve_and_a_single_point_are_in_the_middle() -> None:
    for points in ([(4, 0.5)], [(4, 0.5), (9, 0.5)]):
        rows = plot(points, 30, 7, ascii_only=True).lines
        assert "*" in rows[2] and "*" not in rows[0] + rows[4]


@given(
    points=some.lists(some.floats(), min_size=1, max_size=200),
    width=some.integers(20, 150),
    height=some.integers(4, 40),
    ascii_only=some.booleans(),
)
def test_it_fits_whatever_the_values_are(
    points: list[float], width: int, height: int, ascii_only: bool
) -> None:
    drawn = plot(list(enumerate(points, 1)), width, height, ascii_only)
    assert len(drawn.lines) == height
    assert all(len(line) <= width for line in drawn.lines)
    if ascii_only:
        assert all(line.isascii() for line in drawn.lines)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_left_out(value: float) -> None:
    assert plot([(1, value)], 40, 6).lines[0].strip().startswith("1.000")
    with_it = plot([(1, 0.1), (2, value), (3, 0.2)], 40, 6)
    assert with_it == plot([(1, 0.1), (3, 0.2)], 40, 6)

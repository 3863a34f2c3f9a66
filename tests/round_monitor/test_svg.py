"""Axes at round numbers, points where their values are, lines that keep their extremes."""

import itertools
import math
import re

import pytest

from round_monitor import svg
from round_monitor.svg import Bar, Dot, Line, axis


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.13, 0.94], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.912, 0.957], ["0.91", "0.92", "0.93", "0.94", "0.95", "0.96"]),
        ([0, 12_000], ["0", "5,000", "10,000", "15,000"]),
        ([-3, 2], ["-3", "-2", "-1", "0", "1", "2"]),
        ([7], ["0", "5", "10", "15"]),
        ([-7], ["-15", "-10", "-5", "0"]),
        ([0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks_are_round_numbers_around_the_values(values: list[float], ticks: list[str]) -> None:
    made = axis(values, "")
    assert [made.write(tick) for tick in made.ticks] == ticks
    assert all(made.low <= value <= made.high for value in values)


@pytest.mark.parametrize(
    "values", [[1e-300], [1e300, 2e300], [-1e9, 1e9], [5e-324], [1, 1 + 1e-15]]
)
def test_extreme_values_have_an_axis_too(values: list[float]) -> None:
    made = axis(values, "")
    assert made.low < made.high
    assert len(made.ticks) <= 12
    assert all(made.write(tick) for tick in made.ticks)


def test_whole_ticks_are_at_integers_only() -> None:
    assert axis([1, 2], "", whole=True).ticks == (1, 2)


def test_a_tight_axis_ends_with_the_values() -> None:
    made = axis([0, 11], "", tight=True)
    assert (made.low, made.high, made.ticks) == (0, 11, (0, 5, 10))


def test_a_line_goes_through_its_values() -> None:
    x, y = axis([0, 4], ""), axis([0, 1], "")
    drawn = svg.line_chart([Line(0, [(0, 0), (2, 0.5), (4, 1)])], x, y, "says")
    middle = f"{(svg.LEFT + svg.RIGHT) / 2:.1f},{(svg.TOP + svg.BOTTOM) / 2:.1f}"
    ends = f"{svg.LEFT}.0,{svg.BOTTOM}.0", f"{svg.RIGHT}.0,{svg.TOP}.0"
    assert f'points="{ends[0]} {middle} {ends[1]}"' in drawn


def test_a_chart_without_any_line_is_drawn_empty() -> None:
    assert svg.line_chart([], axis([], "x"), axis([], "y"), "says").startswith("<svg")


def test_neighbouring_runs_differ_in_colour_and_dashes_and_28_in_one_of_them() -> None:
    classes = [tuple(svg.run_class(run).split()[2:]) for run in range(28)]
    assert len(set(classes)) == 28
    for first, second in itertools.pairwise(classes):
        assert first[0] != second[0]
        assert first[1] != second[1]


def test_thinning_keeps_ends_and_extremes() -> None:
    points = [(float(n), math.sin(n / 300)) for n in range(5000)]
    points[1234], points[4321] = (1234.0, 9.0), (4321.0, -9.0)
    thin = svg.thinned(points, 100)
    assert len(thin) <= 100
    assert thin[0] == points[0]
    assert thin[-1] == points[-1]
    assert {points[1234], points[4321]} <= set(thin)
    assert [x for x, _ in thin] == sorted(x for x, _ in thin)


def test_few_points_are_left_as_they_are() -> None:
    points = [(1.0, 2.0), (3.0, 4.0)]
    assert svg.thinned(points, 100) is points
    assert svg.means(points, 100) is points


def test_means_are_of_neighbours() -> None:
    points = [(1.0, 10.0), (2.0, 20.0), (3.0, 0.0), (4.0, 2.0)]
    assert svg.means(points, 2) == [(1.5, 15.0), (3.5, 1.0)]


def test_pieces_of_a_bar_stand_on_each_other_and_empty_ones_are_not_drawn() -> None:
    x, y = svg.Axis(0, 1, (), 1, ""), svg.Axis(0, 4, (), 1, "")
    bar = Bar(0, 1, (1, 0, 3), ("one", "none", "three"))
    drawn = svg.stack_chart([bar], ("answered", "rejected", "dropped"), x, y, "says")
    rects = re.findall(r'<rect class="(\w+)"[^>]* y="([\d.]+)"[^>]* height="([\d.]+)"', drawn)
    high = svg.BOTTOM - svg.TOP
    assert [(kind, float(top), float(height)) for kind, top, height in rects] == [
        ("answered", svg.BOTTOM - high / 4, high / 4),
        ("dropped", svg.TOP, high * 3 / 4),
    ]


def test_what_is_told_of_a_dot_is_text() -> None:
    dot = Dot(0, 0.5, 0.5, "<script>alert(1)</script>")
    drawn = svg.dot_chart([dot], axis([0, 1], ""), axis([0, 1], ""), "says")
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn

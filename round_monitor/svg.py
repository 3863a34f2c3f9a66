"""Small charts as SVG: lines, dots, stacked bars, tiles. Colours are the page's, by class.

All panels are 400 units wide, about as many pixels as they get: a letter is as large in each, on a
telephone as beside two others on a screen.

    y label
    ┌──────────────┐ tick        <svg data-x="0 40" data-y="0.5 1">: what the plot's edges stand
    │   __.--●     │             for. The page's script reads values from that and the points
    │ _/    dots   │             when somebody points at a line.
    └──────────────┘
      tick    x label
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from round_monitor.markup import Html, element, join

WIDTH, HEIGHT = 400, 262
LEFT, RIGHT, TOP, BOTTOM = 50, 380, 12, 220
"""Edges of the plot."""

COLOURS, DASHES = 7, 4
"""How many the page's style has. They share no divisor, so that 28 runs differ in one of them."""

_MARKS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.5,-3.5h7v7h-7z",
    "M0,-4.5L4.5,3.5H-4.5z",
    "M0,-5L5,0L0,5L-5,0z",
)
_MARKED = 8
"""So many marks along a line: enough to tell it from the others without its colour."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    run: int
    """Its place on the page: gives colour, dashes and marks."""
    points: Points


@dataclass(frozen=True, slots=True)
class Dot:
    run: int
    x: float
    y: float
    says: str


@dataclass(frozen=True, slots=True)
class Axis:
    low: float
    high: float
    ticks: tuple[float, ...]
    step: float
    label: str
    whole: bool = False
    """It counts: nothing lies between its integers."""

    def write(self, value: float) -> str:
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        if decimals > 4 or abs(value) >= 1e7:
            return f"{value:.3g}"
        # No "-0".
        return f"{round(value, decimals) + 0.0:,.{decimals}f}"


def axis(
    values: Iterable[float],
    label: str,
    *,
    whole: bool = False,
    from_zero: bool = False,
    tight: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
    ticks: int = 5,
) -> Axis:
    """From a round number to a round number around the values; `tight`: from and to the values.

    `whole`: ticks at integers only.
    """
    # What is smaller cannot be divided into steps.
    known = [value if abs(value) > 1e-290 else 0.0 for value in values]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low <= abs(high) * 1e-9:
        low, high = (min(0.0, 2 * low), max(0.0, 2 * high)) if high else (0.0, 1.0)
    step = _step((high - low) / ticks)
    if whole:
        step = max(1.0, float(round(step)))
    if not tight:
        low = max(math.floor(low / step + 1e-9) * step, within[0])
        high = min(math.ceil(high / step - 1e-9) * step, within[1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = tuple(number * step for number in range(first, last + 1))
    return Axis(low, high, marks, step, label, whole)


def _step(least: float) -> float:
    """The next of …, 0.1, 0.2, 0.5, 1, 2, 5, 10, …"""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def run_class(run: int) -> str:
    return f"run run-{run} c{run % COLOURS} d{run % DASHES}"


def line_chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    says: str,
    *,
    reference: Points | None = None,
    marked: bool = True,
) -> Html:
    across, up = _scales(x, y)
    drawn: list[str] = []
    if reference:
        drawn.append(element("polyline", class_="reference", points=_path(reference, across, up)))
    for line in lines:
        path = _path(line.points, across, up)
        shapes = [element("polyline", class_="line", points=path)]
        if marked:
            shapes += [
                _mark(line.run, across(px), up(py)) for px, py in _spread(line.points, line.run)
            ]
        drawn.append(element("g", *shapes, class_=run_class(line.run), data_run=line.run))
    return _panel(x, y, says, drawn, lines=True)


def dot_chart(
    dots: Sequence[Dot], x: Axis, y: Axis, says: str, *, level: float | None = None
) -> Html:
    across, up = _scales(x, y)
    by_run: dict[int, list[Html]] = {}
    for dot in dots:
        mark = element(
            "path",
            element("title", dot.says),
            class_="mark",
            d=_MARKS[dot.run % len(_MARKS)],
            transform=f"translate({across(dot.x):.1f},{up(dot.y):.1f})",
        )
        by_run.setdefault(dot.run, []).append(mark)
    drawn = [element("g", *marks, class_=run_class(run)) for run, marks in by_run.items()]
    if level is not None:
        drawn.insert(0, element("path", class_="reference", d=f"M{LEFT},{up(level):.1f}H{RIGHT}"))
    return _panel(x, y, says, drawn)


@dataclass(frozen=True, slots=True)
class Bar:
    """One column of a stack: from x to x, and how high each piece is, from the bottom up."""

    start: float
    end: float
    heights: tuple[float, ...]
    says: tuple[str, ...]
    """A sentence for each piece."""


def stack_chart(bars: Sequence[Bar], kinds: Sequence[str], x: Axis, y: Axis, says: str) -> Html:
    """`kinds` are classes of the page's style, one for each piece."""
    across, up = _scales(x, y)
    drawn = []
    for bar in bars:
        left, right = across(bar.start), across(bar.end)
        # A gap between few bars; many would be nothing but gaps.
        width = right - left - (1.5 if right - left > 6 else 0.0)
        bottom = 0.0
        for kind, height, told in zip(kinds, bar.heights, bar.says, strict=True):
            if height <= 0:
                continue
            drawn.append(
                element(
                    "rect",
                    element("title", told),
                    class_=kind,
                    x=f"{left:.2f}",
                    y=f"{up(bottom + height):.2f}",
                    width=f"{max(width, 0.4):.2f}",
                    height=f"{max(up(bottom) - up(bottom + height), 0.2):.2f}",
                )
            )
            bottom += height
    return _panel(x, y, says, drawn)


def tile_chart(
    columns: Sequence[Sequence[float]],
    rows: Sequence[str],
    x_label: str,
    says: str,
    told: Callable[[int, int], str],
) -> Html:
    """A column of shares in [0, 1] for each client: the fuller the colour, the larger the share."""
    x = Axis(0, len(columns), (), 1, x_label)
    y = Axis(0, len(rows), (), 1, "class")
    across, up = _scales(x, y)
    drawn = []
    for number, column in enumerate(columns):
        for row, share in enumerate(column):
            if share < 0.005:
                continue
            drawn.append(
                element(
                    "rect",
                    element("title", told(number, row)),
                    class_="tile",
                    x=f"{across(number):.2f}",
                    y=f"{up(row + 1):.2f}",
                    # They overlap by a hair, or light shines between them.
                    width=f"{across(number + 1) - across(number) + 0.2:.2f}",
                    height=f"{up(row) - up(row + 1) + 0.2:.2f}",
                    fill_opacity=f"{share:.2f}",
                )
            )
    every = math.ceil(len(rows) / 16)
    for row in range(0, len(rows), every):
        drawn.append(_text(rows[row], LEFT - 6, up(row + 0.5) + 4, "tick end"))
    return _panel(x, y, says, drawn)


def swatch(run: int) -> Html:
    """A piece of the run's line, for legends."""
    line = element("polyline", class_="line", points="1,7 33,7")
    return element(
        "svg", line, _mark(run, 17, 7), viewBox="0 0 34 14", class_="swatch", aria_hidden="true"
    )


def patch(kind: str) -> Html:
    """A piece of a bar, for legends."""
    box = element("rect", class_=kind, x="0.5", y="0.5", width="17", height="13")
    return element("svg", box, viewBox="0 0 18 14", class_="swatch", aria_hidden="true")


def thinned(points: Points, at_most: int) -> Points:
    """No more points than that, with the lowest and the highest of each stretch kept."""
    if len(points) <= at_most:
        return points
    kept = [points[0]]
    for stretch in _stretches(points[1:-1], at_most // 2 - 1):
        ends = (min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1]))
        kept += sorted(set(ends))
    return [*kept, points[-1]]


def means(points: Points, at_most: int) -> Points:
    """No more points than that: the mean of each stretch."""
    if len(points) <= at_most:
        return points
    return [
        (sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part))
        for part in _stretches(points, at_most)
    ]


def _stretches(points: Points, count: int) -> Iterable[Points]:
    edges = [round(number * len(points) / count) for number in range(count + 1)]
    return (points[start:end] for start, end in itertools.pairwise(edges) if end > start)


def _scales(x: Axis, y: Axis) -> tuple[Callable[[float], float], Callable[[float], float]]:
    wide, high = (x.high - x.low) or 1.0, (y.high - y.low) or 1.0

    def across(value: float) -> float:
        return LEFT + (value - x.low) / wide * (RIGHT - LEFT)

    def up(value: float) -> float:
        return BOTTOM - (value - y.low) / high * (BOTTOM - TOP)

    return across, up


def _path(points: Points, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    return " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)


def _spread(points: Points, run: int) -> Points:
    """Where marks stand, each run's at other places, so that equal lines do not hide each other."""
    if len(points) <= 2 * _MARKED:
        return points
    shift = run * 0.29 % 1
    return [points[int((number + shift) * len(points) / _MARKED)] for number in range(_MARKED)]


def _mark(run: int, x: float, y: float) -> Html:
    shape = _MARKS[run % len(_MARKS)]
    return element("path", class_="mark", d=shape, transform=f"translate({x:.1f},{y:.1f})")


def _panel(x: Axis, y: Axis, says: str, drawn: Sequence[str], *, lines: bool = False) -> Html:
    across, up = _scales(x, y)
    frame: list[str] = []
    for tick in y.ticks:
        frame.append(element("path", class_="grid", d=f"M{LEFT},{up(tick):.1f}H{RIGHT}"))
        frame.append(_text(y.write(tick), LEFT - 6, up(tick) + 4, "tick end"))
    for tick in x.ticks:
        at = across(tick)
        frame.append(element("path", class_="grid", d=f"M{at:.1f},{BOTTOM}v4"))
        frame.append(_text(x.write(tick), at, BOTTOM + 17, "tick middle"))
    frame.append(element("path", class_="axis", d=f"M{LEFT},{BOTTOM}H{RIGHT}"))
    frame.append(_text(x.label, (LEFT + RIGHT) / 2, HEIGHT - 6, "label middle"))
    frame.append(
        element(
            "text",
            y.label,
            class_="label middle",
            transform=f"translate(11,{(TOP + BOTTOM) / 2}) rotate(-90)",
        )
    )
    edges: dict[str, str | None] = {}
    if lines:
        edges = {
            "data_whole": "" if x.whole else None,
            "data_x": f"{x.low!r} {x.high!r}",
            "data_y": f"{y.low!r} {y.high!r}",
            "data_x_label": x.label,
        }
    return element(
        "svg",
        *frame,
        *drawn,
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=says,
        **edges,
    )


def _text(text: str, x: float, y: float, kind: str) -> Html:
    return element("text", text, class_=kind, x=f"{x:.1f}", y=f"{y:.1f}")


def legend(pairs: Sequence[tuple[Html, str]]) -> Html:
    items = [element("span", patch_, " ", text) for patch_, text in pairs]
    return element("p", join(*items), class_="key")

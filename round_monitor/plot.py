"""A curve made of characters, with its two axes. Pure.

    0.9 ┤          ⢀⡠⠤⠒⠉
        │    ⢀⠔⠊⠁
    0.1 ┤⢀⠔⠁
        └──────────────────
         1              37

Braille has 2 by 4 dots in a cell (Unicode 15, chapter 21.1), so 37 rounds fit in 19 cells.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from round_monitor.units import figure

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Of a cell: by column, from above."""
_BRAILLE = 0x2800

Point = tuple[int, float]
"""Round and value."""


class Plot(NamedTuple):
    lines: list[str]
    """Exactly `height` of them, none wider than `width`."""
    label_width: int
    """So many characters of each line are its axis."""


def plot(points: Sequence[Point], width: int, height: int, ascii_only: bool = False) -> Plot:
    """`points` in the order of their rounds, at least one; values that are not finite are left
    out. `width` 20 and `height` 3 at least."""
    shown = [(number, value) for number, value in points if math.isfinite(value)]
    low, high = _range([value for _, value in shown])
    labels = [figure(high), *[""] * (height - 4), figure(low)] if height > 3 else [figure(high)]
    label_width = max(map(len, labels)) + 1
    cells = width - label_width - 1
    axis = ("|", "+", "-") if ascii_only else ("│", "└", "─")
    draw = _stars if ascii_only else _braille
    rows = draw(shown, low, high, cells, len(labels)) if shown else [""] * len(labels)
    lines = [f"{text:>{label_width}}{axis[0]}{row}" for text, row in zip(labels, rows, strict=True)]
    lines.append(" " * label_width + axis[1] + axis[2] * cells)
    first, last = (str(shown[0][0]), str(shown[-1][0])) if shown else ("", "")
    gap = max(1, cells - len(first) - len(last))
    rounds = f"{first}{' ' * gap}{last}" if first != last else first
    lines.append(" " * (label_width + 1) + rounds)
    return Plot(lines, label_width + 1)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest; a flat curve lies in the middle."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if high - low > 0:
        return low, high
    return low - 0.5, high + 0.5


def _places(
    points: Sequence[Point], low: float, high: float, columns: int, rows: int
) -> list[tuple[int, int]]:
    """Column from the left and row from above, of each point."""
    first, last = points[0][0], points[-1][0]
    span = max(1, last - first)
    found = []
    # Halves, as the difference of two large ones may not be finite. That of two tiny ones is 0.
    whole = high / 2 - low / 2
    for number, value in points:
        height = (value / 2 - low / 2) / whole if whole else 0.5
        column = min(columns - 1, max(0, round((number - first) / span * (columns - 1))))
        found.append((column, rows - 1 - round(height * (rows - 1))))
    return found


def _braille(
    points: Sequence[Point], low: float, high: float, cells: int, height: int
) -> list[str]:
    grid = [[0] * cells for _ in range(height)]
    for column, row in _joined(_places(points, low, high, cells * 2, height * 4)):
        grid[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    return ["".join(chr(_BRAILLE + dots) if dots else " " for dots in line) for line in grid]


def _stars(points: Sequence[Point], low: float, high: float, cells: int, height: int) -> list[str]:
    grid = [[" "] * cells for _ in range(height)]
    for column, row in _joined(_places(points, low, high, cells, height)):
        grid[row][column] = "*"
    return ["".join(line) for line in grid]


def _joined(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those between two neighbours as well."""
    found = list(places[:1])
    for (left, above), (right, below) in pairwise(places):
        steps = max(abs(right - left), abs(below - above), 1)
        found += [
            (
                left + round((right - left) * step / steps),
                above + round((below - above) * step / steps),
            )
            for step in range(1, steps + 1)
        ]
    return found

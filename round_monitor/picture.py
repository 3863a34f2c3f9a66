"""A run in one picture: how good the model became, and who took part, round by round."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from fedmqtt import unreadable
from fedmqtt.status_pages import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind people can tell apart too; the bars differ in
# lightness and hatching as well.
_BLUE, _ORANGE, _GREEN, _RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"

_ANSWERS = (
    ("answered", _GREEN, "", _GREEN),
    ("rejected", _RED, "xxx", "white"),
    ("dropped", "#D9D9D9", "...", "#8A8A8A"),
    ("surplus", "#CFE8F7", "", "#CFE8F7"),
)
"""Field, colour, hatch, colour of the hatch; from the bottom up."""

_SEPARATE_BARS = 50

_INCHES, _DOTS_PER_INCH = (8.0, 6.0), 150
"""1200 by 900 pixels."""


class PictureError(Exception):
    """There is nothing to draw, or nothing to draw it with; says which."""


class _Round(Struct, frozen=True):
    """One line of the history: clients by name, alone or with a reason, or how many there were."""

    round: int
    invited: list[str] | dict[str, Any] | int = 0
    answered: list[str] | dict[str, Any] | int = 0
    dropped: list[str] | dict[str, Any] | int = 0
    rejected: list[str] | dict[str, Any] | int = 0
    surplus: list[str] | dict[str, Any] | int = 0
    figures: Figures | None = None


def draw(history: Path, out: Path, title: str) -> None:
    """A PNG of 1200 by 900 pixels from a run's `history.jsonl`. Raises PictureError."""
    rounds = _read(history)
    try:
        # Here, because it is an extra, and takes half a second.
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError as missing:
        raise PictureError(
            f"Drawing needs {missing.name}: pip install 'fedmqtt[demo]'"
        ) from missing
    # A Figure of its own draws with Agg; pyplot would look for a display.
    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    figure.suptitle(title, fontsize=13, fontweight="bold")
    _draw_figures(above, rounds)
    _draw_participation(below, rounds)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        axes.set_axisbelow(True)
    below.set_xlabel("round")
    below.set_xlim(rounds[0].round - 0.7, rounds[-1].round + 0.7)
    for axis in (below.xaxis, below.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    try:
        figure.savefig(out, format="png")
    except OSError as bad:
        raise PictureError(f"{out} cannot be written: {bad.strerror}") from bad


def _read(history: Path) -> list[_Round]:
    try:
        lines = history.read_bytes().splitlines()
        rounds = [msgspec.json.decode(line, type=_Round) for line in lines if line.strip()]
    except (OSError, *unreadable.MESSAGE) as bad:
        raise PictureError(f"{history} cannot be drawn: {bad}") from bad
    if not rounds:
        raise PictureError(f"{history} cannot be drawn: no round has been closed")
    return rounds


def _draw_figures(axes: "Axes", rounds: list[_Round]) -> None:
    # A line at 1.0 is as thick as any other.
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("on clients' own data")
    lines = (
        ("accuracy", "accuracy", _BLUE, "o", "-"),
        ("macro_f1", "macro-F1", _ORANGE, "s", "--"),
    )
    for metric, label, colour, marker, style in lines:
        points = [
            (line.round, line.figures.metrics[metric])
            for line in rounds
            if line.figures is not None and metric in line.figures.metrics
        ]
        if not points:
            continue
        at, values = zip(*points, strict=True)
        axes.plot(
            at,
            values,
            color=colour,
            marker=marker if len(points) <= _SEPARATE_BARS else None,
            linestyle=style,
            linewidth=2,
            label=f"{label}, {values[-1]:.3f} at the end",
        )
    if axes.lines:
        axes.set_title("The model that each round started from", fontsize=11, loc="left")
        axes.legend(loc="lower right", frameon=False)
    else:
        axes.text(0.5, 0.5, "no model was evaluated", ha="center", transform=axes.transAxes)


def _draw_participation(axes: "Axes", rounds: list[_Round]) -> None:
    axes.set_title("Who took part", fontsize=11, loc="left")
    axes.set_ylabel("clients")
    at = [line.round for line in rounds]
    # Gaps and hatches of a hundred bars would be all there is to see.
    few = len(rounds) <= _SEPARATE_BARS
    bottom = [0] * len(rounds)
    for name, colour, hatch, hatch_colour in _ANSWERS:
        heights = [_count(getattr(line, name)) for line in rounds]
        axes.bar(
            at,
            heights,
            bottom=bottom,
            width=0.8 if few else 1.0,
            color=colour,
            hatch=hatch if few else "",
            edgecolor=hatch_colour,
            linewidth=0,
            label=f"{name} {sum(heights):,}",
        )
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    invited = [_count(line.invited) for line in rounds]
    label = f"invited {sum(invited):,}"
    if few:
        axes.bar(at, invited, width=0.8, fill=False, edgecolor="black", label=label)
    else:
        axes.step(at, invited, where="mid", color="black", linewidth=1, label=label)
    axes.set_ylim(0, max(1, *invited, *bottom) * 1.05)


def _count(clients: list[str] | dict[str, Any] | int) -> int:
    return clients if isinstance(clients, int) else len(clients)

"""Who holds what, in one picture: how many samples each client has, and of which classes.

samples   ▂ ▅ ▁ ▇ ▃ ▂      one bar per client, the held-out part hatched
class 2   ░ ▓ ░ ░ █ ░      one column per client: the share of each class in what it holds
class 1   █ ░ ░ ▓ ░ ░
class 0   ░ ░ █ ░ ░ ▓
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fleet_sim.split import Holding, holdings
from round_monitor.picture import PictureError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE = "#0072B2"
_COLOURS = "Blues"

_NAMED = 40
"""Up to so many clients are told by name, in the order of the split. More are told by how many
they are, and sorted by the mean of their labels, so that the eye finds what they have in common."""
_COUNTED_CELLS = 160
"""Up to so many cells have room for a number."""

_INCHES, _DOTS_PER_INCH = (10.0, 6.0), 150
"""1500 by 900 pixels: a thousand columns are more than one pixel each."""


def draw(folder: Path, out: Path, title: str) -> None:
    """A PNG of 1500 by 900 pixels from the `split.npz` in a folder.

    Raises PictureError where the targets are no classes, or there is nothing to draw with or no
    place to write to; `TaskError` where there is no split.
    """
    held = holdings(folder)
    if not held[0].label_counts:
        raise PictureError(f"{folder} cannot be drawn: its task has no CLASS_NAMES")
    try:
        # Here, because it is an extra, and takes half a second.
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError as missing:
        raise PictureError(
            f"Drawing needs {missing.name}: pip install 'fedmqtt[demo]'"
        ) from missing
    if len(held) > _NAMED:
        held = sorted(held, key=lambda one: (one.mean_label, one.client))
    # A Figure of its own draws with Agg; pyplot would look for a display.
    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3])
    figure.suptitle(title, fontsize=13, fontweight="bold")
    _draw_sizes(above, held)
    above.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    _draw_mixtures(figure, below, held)
    below.set_xlim(-0.5, len(held) - 0.5)
    if len(held) <= _NAMED:
        names = [one.client for one in held]
        below.set_xticks(range(len(held)), names, rotation=90 if len(held) > 10 else 0, fontsize=8)
    else:
        below.set_xlabel(f"{len(held):,} clients, sorted by their mean label")
    try:
        figure.savefig(out, format="png")
    except OSError as bad:
        raise PictureError(f"{out} cannot be written: {bad.strerror}") from bad


def _draw_sizes(axes: "Axes", held: list[Holding]) -> None:
    sizes = [one.samples for one in held]
    axes.set_title(
        f"{sum(sizes):,} samples; per client {min(sizes):,} to {max(sizes):,}, "
        f"median {np.median(sizes):,.0f}",
        fontsize=11,
        loc="left",
    )
    axes.set_ylabel("samples")
    width = 0.8 if len(held) <= _NAMED else 1.0
    train = [one.samples - one.held_out for one in held]
    out = [one.held_out for one in held]
    axes.bar(range(len(held)), train, width=width, color=_BLUE, label="train")
    if any(out):
        axes.bar(
            range(len(held)),
            out,
            bottom=train,
            width=width,
            color="#CFE8F7",
            hatch="////" if len(held) <= _NAMED else "",
            edgecolor=_BLUE,
            linewidth=0,
            label="held out",
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_mixtures(figure: "Figure", axes: "Axes", held: list[Holding]) -> None:
    labels = list(held[0].label_counts)
    counts = np.array([list(one.label_counts.values()) for one in held])
    shares = (counts / counts.sum(axis=1, keepdims=True)).T
    # Nearest: a smoothed edge between two clients would be a mixture that nobody holds.
    image = axes.imshow(
        shares, _COLOURS, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="nearest"
    )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylabel("class")
    if counts.size <= _COUNTED_CELLS:
        for client, row in enumerate(counts.tolist()):
            for label, count in enumerate(row):
                axes.text(
                    client,
                    label,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[label, client] > 0.6 else "black",
                )
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.05)
    bar.set_label("share of the client's samples")

"""The picture of `inversion.py`, as PNG: victims above, and what was found of them below."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Panel:
    """What was found in one view."""

    digits: str
    view: str
    guess: float
    """Mean square error of the mean image."""
    victims: Tensor
    """Of the first seed, shape (n, pixels)."""
    found: Tensor
    """The same ones, as far as they were."""
    errors: Sequence[float]
    """Of all seeds."""
    recovered: int
    identified: int
    seconds: float
    """For all victims of a seed."""

    @property
    def told(self) -> dict[str, Any]:
        """All but the images."""
        return {
            "digits": self.digits,
            "view": self.view,
            "guess": self.guess,
            "victims": len(self.errors),
            "median_error": median(self.errors),
            "error_max": max(self.errors),
            "error_min": min(self.errors),
            "recovered": self.recovered,
            "identified": self.identified,
            "seconds": self.seconds,
        }


def draw(panels: Sequence[Panel], out: Path) -> None:
    # Here, because it takes half a second. A Figure of its own draws with Agg; pyplot would look
    # for a display.
    from matplotlib.figure import Figure

    sources = list(dict.fromkeys(panel.digits for panel in panels))
    figure = Figure(figsize=(7.0 * len(sources), 4.4), dpi=100, layout="constrained")
    parts = figure.subfigures(1, len(sources), squeeze=False)[0]
    for part, source in zip(parts, sources, strict=True):
        mine = [panel for panel in panels if panel.digits == source]
        _draw_source(part, mine)
    figure.savefig(out)


def _draw_source(part: Any, panels: Sequence[Panel]) -> None:
    rows = [("the clients' digits", panels[0].victims)]
    for one in panels:
        title = f"{one.view}\n{one.recovered} of {len(one.errors)} recovered"
        rows.append((title, one.found))
    count = len(panels[0].victims)
    side = int(panels[0].victims.shape[1] ** 0.5)
    axes = part.subplots(len(rows), count, squeeze=False)
    for line, (title, images) in zip(axes, rows, strict=True):
        for place, image in zip(line, images, strict=True):
            place.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
            place.set_xticks([])
            place.set_yticks([])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    part.suptitle(f"{side} x {side} pixels")

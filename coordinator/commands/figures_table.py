"""A model's figures as lines of text: of all, of each group, and how clients differ."""

from collections.abc import Sequence

from fedmqtt.logs import printable
from fedmqtt.status_pages import Figures, GroupFigures

_SHOWN_MAX = 6
"""Metrics side by side; all are in the history."""
_FIRST = ("accuracy", "macro_f1", "loss")


def lines(figures: Figures) -> list[str]:
    """Columns of equal width, without line breaks. Where all is one group there is one row."""
    names = _shown(figures)
    rows = [["", "clients", "samples", *names]]
    whole = GroupFigures(clients=figures.clients, samples=figures.samples, metrics=figures.metrics)
    told = {"all": whole} | figures.groups
    rows += [
        [printable(label), f"{one.clients:,}", f"{one.samples:,}", *_values(one.metrics, names)]
        for label, one in told.items()
    ]
    found = _set(rows)
    if any(name in figures.spread for name in names):
        found += ["", *_spread(figures, names)]
    return found


def _spread(figures: Figures, names: Sequence[str]) -> list[str]:
    rows = [["each client once", "mean", "lowest tenth", "median", "highest tenth"]]
    for name in names:
        if (one := figures.spread.get(name)) is not None:
            values = (one.mean, one.lowest_tenth, one.median, one.highest_tenth)
            rows.append([printable(name), *(f"{value:.4g}" for value in values)])
    return _set(rows)


def _shown(figures: Figures) -> list[str]:
    known = [name for name in _FIRST if name in figures.metrics]
    return [*known, *(name for name in figures.metrics if name not in known)][:_SHOWN_MAX]


def _values(metrics: dict[str, float], names: Sequence[str]) -> list[str]:
    return [f"{metrics[name]:.4g}" if name in metrics else "-" for name in names]


def _set(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in rows
    ]

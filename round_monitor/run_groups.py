"""The report's part on whom the last model serves how well: by kind of device, and spread."""

from collections.abc import Sequence

from round_monitor import markup
from round_monitor.markup import Html, element, join
from round_monitor.run_charts import Shown, run_heading
from round_monitor.run_files import Served

_METRICS_MAX = 6


def served(shown: Sequence[Shown]) -> Html:
    """Nothing where no run tells of it."""
    parts: list[str] = []
    for one in shown:
        figures = one.run.served
        if figures is None or not (figures.groups or figures.spread):
            continue
        if len(shown) > 1:
            parts.append(element("h3", run_heading(one)))
        if figures.groups:
            parts.append(_groups(figures))
        if figures.spread:
            parts.append(_spread(figures))
    return join(*parts)


def _groups(figures: Served) -> Html:
    names = sorted({name for group in figures.groups.values() for name in group.metrics})
    names = names[:_METRICS_MAX]
    rows = [
        [
            markup.name(label),
            f"{group.clients:,}",
            f"{group.samples:,}",
            *(_number(group.metrics.get(name)) for name in names),
        ]
        for label, group in figures.groups.items()
    ]
    return markup.table(["group", "clients", "samples", *map(markup.name, names)], rows)


def _spread(figures: Served) -> Html:
    rows = [
        [
            markup.name(name),
            *map(_number, (one.mean, one.lowest_tenth, one.median, one.highest_tenth)),
        ]
        for name, one in list(figures.spread.items())[:_METRICS_MAX]
    ]
    head = ["each client once", "mean", "lowest tenth", "median", "highest tenth"]
    return markup.table(head, rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"

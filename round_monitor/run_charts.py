"""The report's charts of the model and of its rounds: how good, for how much; what was lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from round_monitor import markup, run_figures, svg, units
from round_monitor.markup import Html, element, join
from round_monitor.run_figures import Point
from round_monitor.run_files import Round, Run

TABLE_ROWS = 40
"""A chart's table tells so many of its points; the rest is in the run's history."""
_BARS = 60
_NOISY_POINTS = 60
_LINE_POINTS = 600
_PAGE_POINTS = 40_000
"""Over all lines of the page: 0.5 MB."""
_METRICS = 12
_REASONS = 12

_NAMES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "loss": "Loss"}

_T = TypeVar("_T")

_OUTCOMES = ("answered", "rejected", "dropped", "surplus")


@dataclass(frozen=True, slots=True)
class Shown:
    """A run on the page."""

    place: int
    name: str
    run: Run


@dataclass(frozen=True, slots=True)
class Scale:
    """In what the page counts time or bytes, so that the largest has few digits."""

    unit: str
    one: float


def time_scale(shown: Sequence[Shown]) -> Scale:
    longest_s = max(one.run.rounds[-1].at_s for one in shown)
    virtual = "virtual " if all(one.run.is_virtual for one in shown) else ""
    for unit, one_s, until in (("seconds", 1, 180), ("minutes", 60, 7200)):
        if longest_s < until:
            return Scale(virtual + unit, one_s)
    return Scale(f"{virtual}hours", 3600)


def byte_scale(shown: Sequence[Shown]) -> Scale:
    most = max(one.run.rounds[-1].bytes_moved for one in shown)
    for unit, one in (("kilobytes", 1e3), ("megabytes", 1e6)):
        if most < 2000 * one:
            return Scale(unit, one)
    return Scale("gigabytes", 1e9)


def model_charts(shown: Sequence[Shown]) -> Html:
    """For each metric, by round, by time and by bytes."""
    runs = [one.run for one in shown]
    names = run_figures.metrics(runs)
    trained = run_figures.training_metrics(runs)
    parts: list[str] = []
    lines = 3 * len(shown) * min(_METRICS, max(1, len(names) + len(trained)))
    at_most = max(60, min(_LINE_POINTS, _PAGE_POINTS // lines))
    for metric in names[:_METRICS]:
        curves = [run_figures.curve(one.run, metric) for one in shown]
        title = _NAMES.get(metric, metric)
        parts.append(_metric(shown, title, curves, at_most, "round"))
    for metric in trained[: max(0, _METRICS - len(names))]:
        curves = [run_figures.training_curve(one.run, metric) for one in shown]
        title = f"{_NAMES.get(metric, metric)} while training"
        parts.append(_metric(shown, title, curves, at_most, "round"))
    left = len(names) + len(trained) - _METRICS
    if left > 0:
        parts.append(element("p", f"{left} more metrics are in the runs’ histories."))
    if not names:
        parts.insert(0, element("p", "No model was evaluated in a closed round."))
    return join(*parts)


def _metric(
    shown: Sequence[Shown], title: str, curves: Sequence[Sequence[Point]], at_most: int, of: str
) -> Html:
    time, size = time_scale(shown), byte_scale(shown)
    values = [point.value for points in curves for point in points]
    unit_range = all(0 <= value <= 1 for value in values)
    y = svg.axis(values, title, within=(0, 1) if unit_range else (float("-inf"), float("inf")))
    ways: list[tuple[str, Callable[[Point], float]]] = [
        (of + "s", lambda point: point.rounds),
        (time.unit, lambda point: point.at_s / time.one),
        (f"{size.unit} sent and received", lambda point: point.bytes_moved / size.one),
    ]
    panels = []
    for label, across in ways:
        lines = [
            svg.Line(one.place, svg.thinned([(across(p), p.value) for p in points], at_most))
            for one, points in zip(shown, curves, strict=True)
            if points
        ]
        spent = [x for line in lines for x, _ in line.points]
        x = svg.axis(spent, label, whole=label == of + "s", from_zero=True, tight=True)
        panels.append(
            svg.line_chart(lines, x, y, f"{title} by {label}. The figures follow as a table.")
        )
    return figure(title, panels, _metric_table(shown, curves))


def _metric_table(shown: Sequence[Shown], curves: Sequence[Sequence[Point]]) -> Html:
    """One table per run: their rounds, times and bytes have nothing in common."""
    tables = []
    for one, points in zip(shown, curves, strict=True):
        rows = [
            [
                f"{p.rounds:,}",
                units.duration(p.at_s),
                units.size(p.bytes_moved),
                f"{p.value:.4g}",
            ]
            for p in every(points, TABLE_ROWS)
        ]
        tables.append(markup.table(["rounds", "time", "bytes", "value"], rows, caption=one.name))
    return join(*tables)


def round_charts(shown: Sequence[Shown]) -> Html:
    durations = _by_round(
        shown, "Duration of a round", "seconds", lambda line: line.duration_s, _had_clients
    )
    lost = _by_round(
        shown,
        "Share of those invited who dropped out",
        "share",
        lambda line: line.dropped / line.invited,
        _had_clients,
    )
    late = _by_round(
        shown, "Answers to a round that had closed", "late answers", lambda line: line.late, _any
    )
    stacks = [_stack(one) for one in shown]
    key = svg.legend([(svg.patch(kind), _MEANS[kind]) for kind in _OUTCOMES])
    became = element(
        "figure",
        element("figcaption", "What became of those invited to train"),
        key,
        element("div", *(panel for panel, _ in stacks), class_="panels"),
        markup.folded("The same as a table", *(table for _, table in stacks)),
    )
    return join(element("div", durations, lost, late, class_="panels"), became, _reasons(shown))


_MEANS = {
    "answered": "answered in time",
    "rejected": "rejected",
    "dropped": "dropped: gone, too slow or declined",
    "surplus": "surplus: still at work when the round was complete",
}


def _had_clients(line: Round) -> bool:
    return line.invited > 0


def _any(line: Round) -> bool:
    return True


def _by_round(
    shown: Sequence[Shown],
    title: str,
    unit: str,
    value: Callable[[Round], float],
    counts: Callable[[Round], bool],
) -> Html:
    lines, tables = [], []
    averaged = False
    for one in shown:
        all_points = [(float(r.number), value(r)) for r in one.run.rounds if counts(r)]
        averaged |= len(all_points) > _NOISY_POINTS
        if all_points:
            lines.append(svg.Line(one.place, svg.means(all_points, _NOISY_POINTS)))
        rows = [[f"{x:.0f}", f"{y:.4g}"] for x, y in every(all_points, TABLE_ROWS)]
        tables.append(markup.table(["round", unit], rows, caption=one.name))
    x = svg.axis((x for line in lines for x, _ in line.points), "round", whole=True, tight=True)
    y = svg.axis((y for line in lines for _, y in line.points), unit, from_zero=True)
    note = " (means of neighbouring rounds)" if averaged else ""
    chart = svg.line_chart(lines, x, y, f"{title}, by round. The figures follow as a table.")
    return figure(title + note, [chart], join(*tables))


def _stack(one: Shown) -> tuple[Html, Html]:
    rounds = [line for line in one.run.rounds if line.invited]
    bars, rows = [], []
    for part in stretches(rounds, _BARS):
        heights = tuple(sum(getattr(line, kind) for line in part) / len(part) for kind in _OUTCOMES)
        first, last = part[0].number, part[-1].number
        which = f"round {first}" if first == last else f"rounds {first} to {last}, mean"
        told = [f"{which}: {h:.4g} {kind}" for h, kind in zip(heights, _OUTCOMES, strict=True)]
        bars.append(svg.Bar(first - 0.5, last + 0.5, heights, tuple(told)))
        rows.append([which, *(f"{height:.4g}" for height in heights)])
    # Rounds, not their edges, are what the axis counts.
    low, high = (rounds[0].number, rounds[-1].number) if rounds else (0, 1)
    ticks = svg.axis((low, high), "round", whole=True)
    inside = tuple(tick for tick in ticks.ticks if low <= tick <= high)
    x = svg.Axis(low - 0.5, high + 0.5, inside, ticks.step, "round")
    y = svg.axis((sum(bar.heights) for bar in bars), "clients", from_zero=True)
    chart = svg.stack_chart(bars, _OUTCOMES, x, y, f"{one.name}: clients by round, stacked")
    panel = element(
        "div",
        element("h4", svg.swatch(one.place), " ", markup.name(one.name)),
        chart,
        class_=svg.run_class(one.place),
    )
    return panel, markup.table(["round", *_OUTCOMES], rows, caption=one.name)


def _reasons(shown: Sequence[Shown]) -> Html:
    lists = (
        ("Why rounds closed", [one.run.tallies.why_closed for one in shown]),
        ("Why answers were rejected", [one.run.tallies.why_rejected for one in shown]),
        ("Why clients declined", [one.run.tallies.why_declined for one in shown]),
    )
    parts = []
    for title, counters in lists:
        together = sum(counters, start=type(counters[0])())
        often = [why for why, _ in together.most_common(_REASONS)]
        rows = [
            [markup.name(why or "no reason given"), *(f"{counter[why]:,}" for counter in counters)]
            for why in often
        ]
        if len(together) > len(often):
            rest = [c.total() - sum(c[why] for why in often) for c in counters]
            others = f"{len(together) - len(often):,} other reasons"
            rows.append([others, *(f"{count:,}" for count in rest)])
        heading = element("h3", title)
        if rows:
            heads = ["reason", *(run_heading(one) for one in shown)]
            parts.append(element("div", heading, markup.table(heads, rows)))
        else:
            parts.append(element("div", heading, element("p", "Never.", class_="quiet")))
    # Tables of many runs need the page's width.
    return element("div", *parts, class_="panels" if len(shown) <= 2 else None)


def run_heading(one: Shown) -> Html:
    return element(
        "span",
        svg.swatch(one.place),
        " ",
        markup.name(one.name),
        class_=f"c{one.place % svg.COLOURS} d{one.place % svg.DASHES}",
    )


def figure(title: str, panels: Sequence[str], table: Html) -> Html:
    """A chart with the same figures as a table, for who cannot see it."""
    return element(
        "figure",
        element("figcaption", title),
        element("div", *panels, class_="panels"),
        markup.folded("The same as a table", table),
    )


def every(items: Sequence[_T], at_most: int) -> list[_T]:
    """So many of them, evenly, the first and the last among them."""
    if len(items) <= at_most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (at_most - 1))] for n in range(at_most)]


def stretches(items: Sequence[_T], at_most: int) -> list[Sequence[_T]]:
    """All of them, in order, in no more than so many parts."""
    size = -(-len(items) // at_most)
    return [items[start : start + size] for start in range(0, len(items), max(1, size))]

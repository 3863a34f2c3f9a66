"""Does the model still improve? A word and a sentence, by what clients measured. Pure.

One rule for all: the coordinator tells the answer on its page, and every view shows that one. Of a
coordinator of before, that does not tell it, views find it themselves, by this rule:
`round_monitor/verdict.py`, and for browsers `round_monitor/web/health.js`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fedmqtt.metric_words import figure, spelled
from fedmqtt.status_pages import Better, RoundLine

RECENT = 5
BETTER_BY = 0.002
"""What the best of the last `RECENT` measured rounds must add, to count as better: of a share like
accuracy so much, of a loss such a share of it."""

LEADING = ("accuracy", "macro_f1", "loss")
"""The first of them that is measured tells whether the model improves."""


class Trend(NamedTuple):
    better: Better
    why: str
    """After `Yes: ` or `No: ` where it is one of these."""


NOT_MEASURED = Trend("unknown", "Not measured so far")


def trend(lines: Sequence[RoundLine]) -> Trend:
    """Of the last rounds, oldest first."""
    measured = [(line.round, line.figures.metrics) for line in lines if line.figures is not None]
    measured = [(number, metrics) for number, metrics in measured if metrics]
    if not measured:
        return NOT_MEASURED
    metric = _leading(measured[-1][1])
    sign = -1 if "loss" in metric else 1
    of_metric = [(number, found[metric]) for number, found in measured if metric in found]
    values = [value for _, value in of_metric]
    now = f"{spelled(metric)} {figure(values[-1])}"
    if len(values) <= RECENT:
        rounds = measured[-1][0] - 1
        return Trend("early", f"{now}, after {rounds:,} round{'' if rounds == 1 else 's'}")
    before = max(sign * value for value in values[:-RECENT])
    lately = max(sign * value for value in values[-RECENT:])
    if lately - before > BETTER_BY * (1 if sign > 0 else abs(before)):
        change = f"{'+' if sign > 0 else '−'}{figure(lately - before)}"
        told = f"the best of the last {RECENT} measured rounds is {change} on all before"
        return Trend("yes", f"Yes: {now}; {told}")
    at = next(number for number, value in of_metric if sign * value == before)
    return Trend("no", f"No: {now}; the best was {figure(sign * before)} at round {at}")


def _leading(metrics: Collection[str]) -> str:
    return next((name for name in LEADING if name in metrics), min(metrics))

"""How a model does for each kind of device, and for those whom it serves worst.

A mean over the fleet hides both: a watch among ten phones, and the tenth of the clients for whom
the model is of no use. Figures of fewer than `GROUP_MIN` clients are never told by themselves:
small groups are folded into `OTHERS`, and a group more where the rest would give those away.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import fmean, median

from msgspec import structs

from coordinator import evaluation
from fedmqtt import metrics
from fedmqtt.messages import Measures
from fedmqtt.status_pages import OTHERS, Figures, GroupFigures, Spread
from fedmqtt.topics import ClientId

GROUP_MIN = 3
"""Fewer clients have no figures of their own: they would be those of one device, or nearly."""

GROUPS_MAX = 20
"""Of more kinds of devices the smaller ones are folded together."""

SPREAD_MIN = 2 * GROUP_MIN
"""With fewer clients the lowest and the highest would be nearly all of them."""

SPREAD_METRICS_MAX = 20


def summarise(measured: Mapping[ClientId, Measures]) -> Figures | None:
    """The figures of all, of each group, and how they are spread. None without an evaluation.

    Clients in sorted order, so that the same answers give the same figures to the last bit.
    """
    figures = evaluation.summarise(measured)
    if figures is None:
        return None
    ordered = [measured[client] for client in sorted(measured)]
    return structs.replace(figures, groups=groups(ordered), spread=spread(ordered))


def groups(measured: Sequence[Measures]) -> dict[str, GroupFigures]:
    """By label, the largest first, `OTHERS` last; none where there would be one group alone."""
    members: dict[str, list[Measures]] = {}
    for one in measured:
        members.setdefault(one.label or OTHERS, []).append(one)
    others = members.pop(OTHERS, [])
    by_size = sorted(members, key=lambda label: (-len(members[label]), label))
    told = [label for label in by_size if len(members[label]) >= GROUP_MIN][:GROUPS_MAX]
    for label in by_size:
        if label not in told:
            others += members[label]
    # What all came to is told too: less those that are told, it would be the figures of the rest.
    while told and 0 < len(others) < GROUP_MIN:
        others += members[told.pop()]
    named = [(label, members[label]) for label in told] + ([(OTHERS, others)] if others else [])
    return {label: _figures(group) for label, group in named} if len(named) > 1 else {}


def spread(measured: Sequence[Measures]) -> dict[str, Spread]:
    """Of each metric over the clients that have it, each counting once however much data it has."""
    values: dict[str, list[float]] = {}
    for one in measured:
        for name, value in _own(one).items():
            values.setdefault(name, []).append(value)
    by_clients = sorted(values, key=lambda name: (-len(values[name]), name))
    return {
        name: _spread(sorted(values[name]))
        for name in sorted(by_clients[:SPREAD_METRICS_MAX])
        if len(values[name]) >= SPREAD_MIN
    }


def _figures(group: Sequence[Measures]) -> GroupFigures:
    found, _ = evaluation.combined(group)
    return GroupFigures(
        clients=len(group), samples=sum(one.sample_count for one in group), metrics=found
    )


def _own(one: Measures) -> dict[str, float]:
    if one.confusion is None:
        return one.metrics
    own = {"accuracy": metrics.accuracy(one.confusion), "macro_f1": metrics.macro_f1(one.confusion)}
    return one.metrics | own


def _spread(values: Sequence[float]) -> Spread:
    """Of values in ascending order."""
    tenth = max(GROUP_MIN, ceil(len(values) / 10))
    return Spread(
        clients=len(values),
        mean=fmean(values),
        lowest_tenth=fmean(values[:tenth]),
        median=median(values),
        highest_tenth=fmean(values[-tenth:]),
    )

"""From what single clients measured to one figure for the model."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fedmqtt import metrics
from fedmqtt.messages import Measures
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId

Measured = Sequence[tuple[Mapping[str, float], int]]
"""(metrics, sample count) of each client."""

METRICS_MAX = 100
"""Metrics with a mean. Of more, those that most clients have: none crowds out what all measure."""

METRIC_MAX = 1e30
"""Far above what anybody measures, and far below where sums overflow."""


def weighted_means(measured: Measured) -> dict[str, float]:
    """Of each metric, over the clients that have it, weighted by their samples."""
    means: dict[str, float] = {}
    for name in _names(measured):
        having = [(figures[name], count) for figures, count in measured if name in figures]
        samples = sum(count for _, count in having)
        means[name] = sum(value * count for value, count in having) / samples
    return means


def summarise(measured: Mapping[ClientId, Measures]) -> Figures | None:
    """Means weighted by samples; accuracy and macro-F1 of the summed confusion matrix.

    The matrix is of the clients that count the classes that most do; without a majority there is
    none. Clients in sorted order, so that the same answers give the same figures to the last bit.
    None without an evaluation.
    """
    ordered = [measured[client] for client in sorted(measured)]
    if not ordered:
        return None
    means, confusion = combined(ordered)
    return Figures(
        clients=len(ordered),
        samples=sum(one.sample_count for one in ordered),
        metrics=means,
        confusion=confusion,
    )


def combined(
    measured: Sequence[Measures],
) -> tuple[dict[str, float], tuple[tuple[int, ...], ...] | None]:
    """Metrics and confusion matrix of several clients, of one at least."""
    means = weighted_means([(one.metrics, one.sample_count) for one in measured])
    confusion = _total_confusion(measured)
    if confusion is not None:
        means["accuracy"] = metrics.accuracy(confusion)
        means["macro_f1"] = metrics.macro_f1(confusion)
    return means, confusion


def _total_confusion(measured: Sequence[Measures]) -> tuple[tuple[int, ...], ...] | None:
    counted = Counter(0 if one.confusion is None else len(one.confusion) for one in measured)
    classes, clients = counted.most_common(1)[0]
    if classes == 0 or 2 * clients <= len(measured):
        return None
    total: tuple[tuple[int, ...], ...] | None = None
    for one in measured:
        # One client that counts other classes, or none, must not take the figures from all.
        if one.confusion is not None and len(one.confusion) == classes:
            total = metrics.add(total, one.confusion) if total else one.confusion
    return total


def _names(measured: Measured) -> list[str]:
    having = Counter(name for figures, _ in measured for name in figures)
    by_clients = sorted(having, key=lambda name: (-having[name], name))
    return sorted(by_clients[:METRICS_MAX])


def metrics_fault(figures: Mapping[str, float]) -> str:
    """What is wrong with the metrics one client sent, or nothing."""
    for name, value in figures.items():
        # Written so that NaN, too, is outside.
        if not abs(value) <= METRIC_MAX:
            return f"metric {name!r} is {value}, which nobody measures"
    return ""


def fault(measures: Measures, samples_max: int) -> str:
    """What is wrong with the numbers one client measured, or nothing."""
    if reason := metrics_fault(measures.metrics):
        return reason
    if measures.sample_count > samples_max:
        return f"claims {measures.sample_count} samples; limits.samples_max is {samples_max}"
    confusion = measures.confusion
    if confusion is not None and not metrics.is_square(confusion):
        return "the confusion matrix is not square"
    if confusion is not None and sum(map(sum, confusion)) != measures.sample_count:
        return "the confusion matrix does not sum to the sample count"
    return ""

"""From what single clients measured to one figure for the model."""

from collections.abc import Mapping, Sequence

from fedmqtt import metrics
from fedmqtt.messages import Measures
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId

Measured = Sequence[tuple[Mapping[str, float], int]]
"""(metrics, sample count) of each client."""


def weighted_means(measured: Measured) -> dict[str, float]:
    """Of each metric, over the clients that have it, weighted by their samples."""
    names = sorted({name for figures, _ in measured for name in figures})
    means: dict[str, float] = {}
    for name in names:
        having = [(figures[name], count) for figures, count in measured if name in figures]
        samples = sum(count for _, count in having)
        means[name] = sum(value * count for value, count in having) / samples
    return means


def summarise(measured: Mapping[ClientId, Measures]) -> Figures | None:
    """Means weighted by samples; accuracy and macro-F1 of the summed confusion matrix.

    Clients in sorted order, so that the same answers give the same figures to the last bit. None
    without an evaluation.
    """
    ordered = [measured[client] for client in sorted(measured)]
    if not ordered:
        return None
    means = weighted_means([(one.metrics, one.sample_count) for one in ordered])
    confusion = _total_confusion(ordered)
    if confusion is not None:
        means["accuracy"] = metrics.accuracy(confusion)
        means["macro_f1"] = metrics.macro_f1(confusion)
    return Figures(
        clients=len(ordered),
        samples=sum(one.sample_count for one in ordered),
        metrics=means,
        confusion=confusion,
    )


def _total_confusion(measured: Sequence[Measures]) -> tuple[tuple[int, ...], ...] | None:
    total: tuple[tuple[int, ...], ...] | None = None
    for one in measured:
        if one.confusion is None:
            return None
        try:
            total = metrics.add(total, one.confusion) if total else one.confusion
        except ValueError:
            # Clients that count other classes have no common matrix; their means still count.
            return None
    return total


def fault(measures: Measures) -> str:
    """What is wrong with the numbers one client measured, or nothing."""
    if any(value != value for value in measures.metrics.values()):
        return "a metric is not a number"
    confusion = measures.confusion
    if confusion is not None and not metrics.is_square(confusion):
        return "the confusion matrix is not square"
    if confusion is not None and sum(map(sum, confusion)) != measures.sample_count:
        return "the confusion matrix does not sum to the sample count"
    return ""

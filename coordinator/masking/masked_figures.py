"""From the sums of what a round's clients measured to its figures; what cannot be is left out.

Nobody can look at what one client sent, and one may send what it likes: sums that clients cannot
have are no sign that keyholders' masks are wrong, and stop no round. They are not told, nor is what
fewer clients have than a sum needs to be opened: it would be theirs alone.
"""

from collections.abc import Iterator

from fedmqtt import metrics
from fedmqtt.masking import measured
from fedmqtt.masking.measured import MeasuredSum, MetricSum
from fedmqtt.messages import Confusion
from fedmqtt.status_pages import Figures


def figures(found: MeasuredSum, clients: int, floor: int) -> tuple[Figures | None, list[str]]:
    """Of so many clients, each device of a site among them: the figures, None where there are none
    to tell; and what was left out, in sentences."""
    if found.clients < floor:
        why = f"no figures are told of the {found.clients} clients that measured: {floor} must"
        return None, [why]
    if found.clients > clients or not measured.are_samples(found.samples, found.clients):
        return None, ["what clients measured adds up to what they cannot have measured"]
    left_out = list(_left_out(found, floor))
    means = {
        name: one.mean
        for name, one in found.metrics.items()
        if not _metric_fault(one, found, floor)
    }
    confusion: Confusion | None = None
    if found.confusion and not _matrix_fault(found, floor):
        confusion = found.confusion
        means["accuracy"] = metrics.accuracy(confusion)
        means["macro_f1"] = metrics.macro_f1(confusion)
    told = Figures(
        clients=found.clients,
        samples=found.samples,
        metrics=dict(sorted(means.items())),
        confusion=confusion,
    )
    return told, left_out


def _left_out(found: MeasuredSum, floor: int) -> Iterator[str]:
    for name, one in found.metrics.items():
        if fault := _metric_fault(one, found, floor):
            yield f"metric {name!r} is not told: {fault}"
    if found.confusion and (fault := _matrix_fault(found, floor)):
        yield f"the confusion matrix is not told: {fault}"


def _metric_fault(one: MetricSum, found: MeasuredSum, floor: int) -> str:
    if one.clients < floor:
        return _too_few(one.clients, floor)
    if one.clients > found.clients or one.samples > found.samples or not one.is_possible:
        return "clients cannot have measured what it adds up to"
    return ""


def _matrix_fault(found: MeasuredSum, floor: int) -> str:
    if found.classified < floor:
        return _too_few(found.classified, floor)
    if 2 * found.classified <= found.clients:
        return f"only {found.classified} of {found.clients} clients count these classes"
    samples = sum(map(sum, found.confusion))
    is_whole = found.classified < found.clients or samples == found.samples
    is_possible = measured.are_samples(samples, found.classified) and samples <= found.samples
    if found.classified > found.clients or not is_whole or not is_possible:
        return "clients cannot have measured what it adds up to"
    return ""


def _too_few(clients: int, floor: int) -> str:
    return f"{clients} clients have it, fewer than privacy.floor = {floor}"

"""What is told of sums that clients measured, and what is left out with a reason."""

from dataclasses import replace
from typing import Any

import pytest

from coordinator.masking import masked_figures
from fedmqtt.masking.measured import SAMPLES_MAX, VALUE_MAX, MeasuredSum, MetricSum
from fedmqtt.status_pages import Figures

STEPS = 2**24
LOSS = MetricSum(clients=4, samples=80, total=40 * STEPS)
FOUND = MeasuredSum(
    clients=4,
    clipped=0,
    samples=80,
    metrics={"loss": LOSS},
    classified=4,
    confusion=((30, 10), (20, 20)),
)
TOLD = Figures(
    clients=4,
    samples=80,
    metrics={"accuracy": 50 / 80, "loss": 0.5, "macro_f1": (60 / 90 + 40 / 70) / 2},
    confusion=((30, 10), (20, 20)),
)


def test_the_figures_are_those_of_the_whole_round() -> None:
    assert masked_figures.figures(FOUND, clients=5, floor=3) == (TOLD, [])


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (replace(FOUND, clients=2), "no figures are told of the 2 clients that measured: 3 must"),
        (replace(FOUND, clients=0), "no figures are told of the 0 clients that measured: 3 must"),
        (replace(FOUND, clients=6), "adds up to what they cannot have measured"),
        (replace(FOUND, samples=3), "adds up to what they cannot have measured"),
        (replace(FOUND, samples=4 * SAMPLES_MAX + 1), "adds up to what they cannot"),
    ],
)
def test_of_too_few_and_of_what_cannot_be_nothing_is_told(found: MeasuredSum, why: str) -> None:
    told, (said,) = masked_figures.figures(found, clients=5, floor=3)
    assert told is None and why in said


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (MetricSum(2, 40, 0), "2 clients have it, fewer than privacy.floor = 3"),
        (MetricSum(5, 80, 0), "cannot have measured what it adds up to"),
        (MetricSum(4, 81, 0), "cannot have measured what it adds up to"),
        (MetricSum(4, 3, 0), "cannot have measured what it adds up to"),
        (MetricSum(4, 80, 80 * int(VALUE_MAX) * STEPS + 1), "cannot have measured what it"),
        (MetricSum(4, 80, -80 * int(VALUE_MAX) * STEPS - 1), "cannot have measured what it"),
    ],
)
def test_a_metric_that_cannot_be_is_left_out_alone(loss: MetricSum, why: str) -> None:
    found = replace(FOUND, metrics={"loss": loss, "mae": LOSS})
    told, (said,) = masked_figures.figures(found, clients=5, floor=3)
    assert told is not None and told.confusion == FOUND.confusion
    assert told.metrics.keys() == {"mae", "accuracy", "macro_f1"}
    assert said.startswith("metric 'loss' is not told: ") and why in said


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"classified": 2}, "2 clients have it, fewer than privacy.floor = 3"),
        ({"clients": 6, "samples": 120, "classified": 3}, "only 3 of 6 clients count these"),
        ({"classified": 5}, "cannot have measured what it adds up to"),
        ({"confusion": ((30, 10), (20, 21))}, "cannot have measured what it adds up to"),
        ({"confusion": ((30, 10), (20, 2**32 - 1))}, "cannot have measured what it adds up to"),
        ({"classified": 3, "confusion": ((81, 0), (0, 0))}, "cannot have measured what it adds"),
        ({"classified": 3, "confusion": ((2, 0), (0, 0))}, "cannot have measured what it adds"),
    ],
)
def test_a_matrix_that_cannot_be_is_left_out_alone(wrong: dict[str, Any], why: str) -> None:
    told, (said,) = masked_figures.figures(replace(FOUND, **wrong), clients=6, floor=3)
    assert told is not None and told.confusion is None and told.metrics == {"loss": 0.5}
    assert said.startswith("the confusion matrix is not told: ") and why in said


def test_a_task_without_classes_has_no_matrix_to_leave_out() -> None:
    found = replace(FOUND, classified=0, confusion=())
    told, left_out = masked_figures.figures(found, clients=4, floor=3)
    assert told == Figures(clients=4, samples=80, metrics={"loss": 0.5}) and not left_out

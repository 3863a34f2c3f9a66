"""One figure for the model from what single clients measured, checked by hand."""

import math

import pytest

from coordinator.evaluation import METRICS_MAX, fault, metrics_fault, summarise, weighted_means
from fedmqtt.messages import Measures
from fedmqtt.topics import ClientId

ANN, BOB, CAT = map(ClientId, ("ann", "bob", "cat"))
Matrix = tuple[tuple[int, ...], ...]


def measures(
    samples: int, confusion: Matrix | None = None, metrics: dict[str, float] | None = None
) -> Measures:
    return Measures(sample_count=samples, metrics=metrics or {}, confusion=confusion)


def test_means_are_weighted_by_samples_over_the_clients_that_have_the_metric() -> None:
    means = weighted_means([({"loss": 1.0}, 10), ({"loss": 4.0, "angle": 7.0}, 20)])
    # (1 * 10 + 4 * 20) / 30, and 7 from the one that measured it.
    assert means == {"angle": 7.0, "loss": 3.0}


def test_nobody_measured_nothing_is_known() -> None:
    assert weighted_means([]) == {}
    assert summarise({}) is None


def test_accuracy_and_f1_come_from_the_sum_of_the_matrices() -> None:
    found = summarise(
        {ANN: measures(4, ((2, 1), (0, 1))), BOB: measures(6, ((1, 0), (2, 3)), {"loss": 0.5})}
    )
    assert found is not None
    assert found.confusion == ((3, 1), (2, 4))
    assert (found.clients, found.samples) == (2, 10)
    # 7 of 10 on the diagonal; F1 2*3/(4+5) and 2*4/(6+5).
    assert found.metrics["accuracy"] == pytest.approx(0.7)
    assert found.metrics["macro_f1"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert found.metrics["loss"] == 0.5


def test_the_same_answers_give_the_same_bits_in_any_order() -> None:
    answers = {
        ClientId(f"client-{i}"): measures(i + 1, metrics={"loss": 0.1 * i}) for i in range(9)
    }
    backwards = dict(reversed(answers.items()))
    assert summarise(answers) == summarise(backwards)


def test_one_client_that_counts_other_classes_does_not_take_the_matrix_from_the_others() -> None:
    honest = {ANN: measures(3, ((2, 0), (0, 1))), BOB: measures(1, ((0, 1), (0, 0)))}
    for odd in (((1,),), None, ((1, 0, 0), (0, 0, 0), (0, 0, 0))):
        found = summarise({**honest, CAT: measures(1, odd, {"loss": 2.0})})
        assert found is not None
        assert found.confusion == ((2, 1), (0, 1))
        assert (found.clients, found.metrics["loss"]) == (3, 2.0)


def test_without_a_majority_there_is_no_common_matrix() -> None:
    found = summarise({ANN: measures(1, ((1,),)), BOB: measures(1, ((1, 0), (0, 0)))})
    assert found is not None
    assert found.confusion is None and found.metrics == {}


def test_a_client_with_many_metrics_does_not_crowd_out_those_that_all_have() -> None:
    many = {f"!{number:03}": 1.0 for number in range(METRICS_MAX)}
    means = weighted_means([({"loss": 1.0}, 1), ({"loss": 3.0, **many}, 1)])
    assert len(means) == METRICS_MAX
    assert means["loss"] == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e31])
def test_a_metric_that_nobody_measures_is_a_fault(value: float) -> None:
    assert metrics_fault({"loss": value}).startswith("metric 'loss' is ")
    assert fault(measures(1, metrics={"loss": value}), 10).startswith("metric 'loss' is ")


def test_ordinary_metrics_are_none() -> None:
    assert metrics_fault({"loss": 0.0, "r2": -3.5, "count": 1e12}) == ""


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (measures(11), "claims 11 samples; limits.samples_max is 10"),
        (measures(3, ((1, 2), (0,))), "the confusion matrix is not square"),
        (measures(3, ((1, 2),)), "the confusion matrix is not square"),
        (measures(4, ((1, 2), (0, 0))), "the confusion matrix does not sum to the sample count"),
        (measures(3, ()), "the confusion matrix does not sum to the sample count"),
        (measures(3, ((1, 2), (0, 0))), ""),
        (measures(10), ""),
    ],
)
def test_faults_are_named(measured: Measures, reason: str) -> None:
    assert fault(measured, samples_max=10) == reason

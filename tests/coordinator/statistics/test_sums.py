"""What the coordinator takes from clients that describe their data, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from coordinator.aggregation import KeepModel
from coordinator.config import Statistics
from fedmqtt import data_query
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId
from tests.coordinator.statistics.asking import Asking, Fleet

ANN = ClientId("ann")


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    found = Asking({"x": (), "kind": ("a", "b")}, Statistics(), tmp_path)
    found.sums.begin(10)
    return found


def honest(asking: Asking) -> Update:
    return asking.answer("ann", {"x": [1.0, 2.0], "kind": [0]})


def test_an_honest_answer_counts(asking: Asking) -> None:
    assert asking.sums.check(ANN, honest(asking)) == ""


def test_who_claims_more_samples_than_it_says_is_refused(asking: Asking) -> None:
    fewer = structs.replace(honest(asking), sample_count=1)
    assert asking.sums.check(ANN, fewer) == "counts 2 samples of 'x', of 1 in all"


def test_sums_that_contradict_each_other_are_refused(asking: Asking) -> None:
    flat = np.zeros(asking.layout.size, np.float32)
    asking.layout.unflatten(flat)["x/counts"][0, 0] = 3
    asking.layout.unflatten(flat)["x/counts"][2, 0] = 1
    told = asking.sums.check(ANN, asking.update(flat, 3))
    assert told == "the sums of 'x' contradict each other"


@pytest.mark.parametrize("wrong", [0.25, 2.0**20, 3e8])
def test_what_no_sum_can_be_is_refused(asking: Asking, wrong: float) -> None:
    flat = np.full(asking.layout.size, wrong, np.float32)
    assert asking.sums.check(ANN, asking.update(flat, 3)) != ""


def test_an_answer_to_the_first_question_is_none_to_the_second(asking: Asking) -> None:
    first = honest(asking)
    fleet: Fleet = {name: {"x": [1.0, 2.0], "kind": [0]} for name in ("ann", "bob", "cat")}
    asking.round(fleet)
    asking.sums.begin(10)
    assert asking.sums.check(ANN, first) == "the sums of 'x' contradict each other"
    assert asking.sums.check(ANN, honest(asking)) == ""


def test_a_round_without_answers_asks_the_same_again(asking: Asking) -> None:
    with pytest.raises(KeepModel, match="nobody has answered"):
        asking.sums.finish(asking.asked)


def test_an_answer_is_as_small_as_what_is_in_it(tmp_path: Path) -> None:
    """Most digits are zeros, and are not sent as such."""
    asking = Asking({f"f{n}": () for n in range(20)}, Statistics(), tmp_path)
    chance = np.random.default_rng(3)
    for _ in range(3):
        fleet = {
            name: {f"f{n}": chance.normal(n, 1.0, 200) for n in range(20)}
            for name in ("ann", "bob", "cat")
        }
        asking.round(fleet)
        sent = asking.answer("ann", fleet["ann"]).payload.nbytes
        assert sent < 4 * asking.layout.size / 10


def test_questions_of_all_features_stay_small() -> None:
    settings = Statistics(bins=256, quantiles=tuple(n / 21 for n in range(1, 21)))
    from coordinator.statistics import refine

    queries = {"x": refine.first(0, settings)}
    flat = data_query.write_queries(queries)
    # The most that anybody may set is still something that a device answers.
    found = data_query.read_queries(data_query.layout(queries).unflatten(flat))
    assert found == queries
    assert flat.nbytes < 16_384

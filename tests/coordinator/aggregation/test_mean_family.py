"""Strategies that need no more than sums: numbers worked out by hand, and whether they arrive."""

import math
from typing import Any

import numpy as np
import pytest

from coordinator.aggregation import Memory
from fedmqtt.weights import Array
from tests.coordinator.aggregation.folding import answers, play, strategy_named


def moved(name: str, memory: Memory, changes: Any, *, samples: Any = (), **given: Any) -> list[Any]:
    """How far the round moves the model, from 0."""
    base = np.zeros(len(changes[0]), np.float32)
    strategy = strategy_named(name)
    found: list[Any] = play(strategy, base, answers(changes, samples), memory, **given).tolist()
    return found


def test_fedavg_of_two_clients() -> None:
    # 1 sample says +4, 3 samples say -2: (4 - 6) / 4 = -0.5, and half of that at rate 0.5.
    for rate, by in [(1.0, -0.5), (0.5, -0.25)]:
        assert moved("fedavg", {}, [[4], [-2]], samples=[1, 3], rate=rate) == [by]


def test_fedavgm_adds_up_what_rounds_agree_on() -> None:
    memory: Memory = {}
    given = {"rate": 0.5, "momentum": 0.75}
    # v = 1; then 0.75 + 1 = 1.75; then 1.3125 - 3 = -1.6875. Half of each.
    assert moved("fedavgm", memory, [[1.0], [1.0]], **given) == [0.5]
    assert moved("fedavgm", memory, [[1.0]], **given) == [0.875]
    assert moved("fedavgm", memory, [[-3.0]], **given) == [-0.84375]


def test_fedavgm_without_momentum_is_fedavg() -> None:
    memory: Memory = {"velocity": np.array([5.0], np.float32)}
    changes, samples = [[0.1], [0.7]], [3, 5]
    assert moved("fedavgm", memory, changes, samples=samples, rate=1.0, momentum=0.0) == moved(
        "fedavg", {}, changes, samples=samples
    )


# With tau = 1, v starts from 1. Two rounds whose mean change is 3, then 1.
@pytest.mark.parametrize(
    ("name", "given", "steps"),
    [
        # v: 1 + 9 = 10, then 11. m is the change itself.
        ("fedadagrad", {}, [3 / (math.sqrt(10) + 1), 1 / (math.sqrt(11) + 1)]),
        # m: 1.5, then 0.75 + 0.5 = 1.25.
        ("fedadagrad", {"momentum": 0.5}, [1.5 / (math.sqrt(10) + 1), 1.25 / (math.sqrt(11) + 1)]),
        # v: 0.5 + 4.5 = 5, then 2.5 + 0.5 = 3.
        (
            "fedadam",
            {"momentum": 0.5, "squares": 0.5},
            [1.5 / (math.sqrt(5) + 1), 1.25 / (math.sqrt(3) + 1)],
        ),
        # v: 1 - 0.5 * 9 * sign(1 - 9) = 5.5, then 5.5 - 0.5 * 1 = 5.
        (
            "fedyogi",
            {"momentum": 0.5, "squares": 0.5},
            [1.5 / (math.sqrt(5.5) + 1), 1.25 / (math.sqrt(5) + 1)],
        ),
    ],
)
def test_adaptive_steps(name: str, given: dict[str, Any], steps: list[float]) -> None:
    memory: Memory = {}
    for mean, step in zip([3.0, 1.0], steps, strict=True):
        # 1 sample says one more, 1 sample one less.
        found = moved(name, memory, [[mean + 1], [mean - 1]], tau=1.0, rate=2.0, **given)
        assert found == pytest.approx([2 * step], rel=1e-6)


def test_fedexp_goes_further_where_clients_differ() -> None:
    # Mean (1, 1); squared norms 4 and 4 of mean 4; 4 / (2 * (2 + 1/2)) = 0.8: not below 1.
    assert moved("fedexp", {}, [[2, 0], [0, 2]], epsilon=0.5) == [1.0, 1.0]
    # Mean (1, 0); squared norms 10 and 10; 10 / (2 * (1 + 1/4)) = 4.
    assert moved("fedexp", {}, [[1, 3], [1, -3]], epsilon=0.25) == [4.0, 0.0]
    # Never further than is allowed.
    assert moved("fedexp", {}, [[1, 3], [1, -3]], epsilon=0.25, rate_max=2.5) == [2.5, 0.0]


def test_fedexp_weighs_squared_norms_by_samples_too() -> None:
    # Mean 3/4 * 2 - 1/4 * 2 = 1; squared norms 4; 4 / (2 * (1 + 1)) = 1. With 9: mean 0.25 and
    # 3/4 * 1 + 1/4 * 4 = 1.75; 1.75 / (2 * (0.0625 + 0.4375)) = 1.75.
    assert moved("fedexp", {}, [[2.0], [-2.0]], samples=[3, 1], epsilon=1.0) == [1.0]
    found = moved("fedexp", {}, [[1.0], [-2.0]], samples=[3, 1], epsilon=0.4375)
    assert found == [1.75 * 0.25]


# A quadratic for each client, with an optimum of its own; some parameters are learned slowly.
OPTIMA = np.array([[1.0, 2.0, -1.0], [3.0, 0.0, 1.0], [2.0, 1.0, 3.0]])
CURVATURES = np.array([1.0, 0.3, 0.1])


def trained(model: Array, optimum: Any) -> Array:
    """The change of one client: 5 steps of gradient descent."""
    here = model.astype(np.float64)
    for _ in range(5):
        here = here - 0.2 * CURVATURES * (here - optimum)
    return (here - model).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "given", "rounds"),
    [
        ("fedavg", {}, 100),
        ("fedavgm", {}, 300),
        ("fedadagrad", {"rate": 1.0}, 300),
        ("fedadam", {"rate": 0.03}, 600),
        ("fedyogi", {"rate": 0.1}, 600),
    ],
)
def test_server_optimisers_arrive_at_the_optimum_of_all(
    name: str, given: dict[str, Any], rounds: int
) -> None:
    strategy, memory = strategy_named(name), dict[str, Array]()
    model = np.full(3, 10.0, np.float32)
    for _ in range(rounds):
        changes = [trained(model, optimum) for optimum in OPTIMA]
        model = play(strategy, model, answers(changes), memory, **given)
    np.testing.assert_allclose(model, OPTIMA.mean(axis=0), atol=0.02)


def test_fedexp_arrives_sooner_than_fedavg_at_an_optimum_that_clients_share() -> None:
    # Each sees a part of the parameters, as in its paper: a mean of three moves a third as far.
    optimum = np.array([2.0, 1.0, 1.0])
    rounds = {}
    for name in ("fedavg", "fedexp"):
        strategy, model = strategy_named(name), np.full(3, 10.0, np.float32)
        rounds[name] = 0
        while np.abs(model - optimum).max() > 0.1:
            changes = np.diag(trained(model, optimum))
            model = play(strategy, model, answers(changes))
            rounds[name] += 1
    assert rounds["fedexp"] < rounds["fedavg"]


@pytest.mark.parametrize("name", ["fedavgm", "fedadagrad", "fedadam", "fedyogi"])
def test_what_is_remembered_makes_a_difference(name: str) -> None:
    memory: Memory = {}
    moved(name, memory, [[1.0]])
    assert memory and moved(name, memory, [[1.0]]) != moved(name, {}, [[1.0]])

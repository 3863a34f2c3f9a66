"""Strategies that ask clients for more than plain local SGD: their sums, against naive ones."""

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator import local_method
from coordinator.aggregation import Memory, Round
from coordinator.config import FederationConfig
from fedmqtt import settings
from fedmqtt.fixed_point import fraction_bits
from fedmqtt.messages import PLAIN, Method, Training, Update, method_name
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array
from tests.coordinator.aggregation.folding import Answer, answers, strategy_named
from tests.updates import update

SIZE, TERMS = 5, 50
BASE = np.linspace(-1, 1, SIZE, dtype=np.float32)
CHANGES = np.random.default_rng(1).uniform(-2, 2, (12, SIZE)).astype(np.float32)
SAMPLES = [int(n) for n in np.random.default_rng(2).integers(1, 200, 12)]


def an_update(samples: int = 10, **said: Any) -> Update:
    return update(sample_count=samples, **said)


def played(
    strategy: ModuleType,
    folded: list[Answer],
    said: list[dict[str, Any]],
    training: Training,
    memory: Memory | None = None,
    **given: Any,
) -> Array:
    round_ = Round(
        size=SIZE,
        bits=fraction_bits(10.0, 1000, TERMS),
        terms_max=TERMS,
        training=training,
        memory={} if memory is None else memory,
    )
    built = strategy.build(settings.convert(given, strategy.Settings, "settings"), round_)
    for (change, count, named), words in zip(folded, said, strict=True):
        built.hear(named, an_update(count, **words))
        built.fold(change, count, named)
    after: Array = built.finish(BASE)
    return after


def config(*overrides: str) -> FederationConfig:
    least = ['name="ward-7"', 'task="learning_tasks.linear"']
    return settings.read(None, [*least, *overrides], FederationConfig)


# FedNova


def accumulated(training: Training, steps: int) -> float:
    """What `steps` gradients of 1 change with rate 1: local SGD, written out for one number."""
    w = velocity = 0.0
    for _ in range(steps):
        velocity = training.momentum * velocity + 1 + training.proximal * w
        w -= training.learning_rate * velocity
    return -w / training.learning_rate


@pytest.mark.parametrize(
    "training",
    [
        Training(batch_size=4),
        Training(batch_size=4, momentum=0.9, epochs=3),
        Training(batch_size=2, proximal=0.5, learning_rate=0.3),
    ],
    ids=["plain", "momentum", "proximal"],
)
def test_fednova_divides_by_what_a_clients_steps_add_up_to(training: Training) -> None:
    nova = strategy_named("fednova")
    steps = [1 + 3 * n for n in range(len(SAMPLES))]
    found = played(
        nova, answers(CHANGES, SAMPLES), [{"steps": one} for one in steps], training, rate=0.5
    )
    made = [accumulated(training, one) for one in steps]
    shares = np.array(SAMPLES) / sum(SAMPLES)
    direction: NDArray[np.float64] = np.zeros(SIZE)
    for share, norm, change in zip(shares, made, CHANGES, strict=True):
        direction += share * change / norm
    np.testing.assert_allclose(found, BASE + 0.5 * shares @ made * direction, rtol=1e-5)


def test_fednova_is_averaging_where_all_make_as_many_steps() -> None:
    folded = answers(CHANGES, SAMPLES)
    found = played(
        strategy_named("fednova"), folded, [{"steps": 7}] * len(folded), Training(batch_size=1)
    )
    np.testing.assert_allclose(found, BASE + np.average(CHANGES, 0, SAMPLES), rtol=1e-5)


def test_who_does_not_tell_its_steps_made_all_that_its_samples_come_to() -> None:
    folded, training = answers(CHANGES, SAMPLES), Training(epochs=2, batch_size=16)
    told: list[dict[str, Any]] = [{"steps": 2 * math.ceil(n / 16)} for n in SAMPLES]
    nova = strategy_named("fednova")
    untold: list[dict[str, Any]] = [{}] * len(folded)
    assert np.array_equal(
        played(nova, folded, told, training), played(nova, folded, untold, training)
    )


def test_nobody_counts_for_more_steps_than_its_samples_come_to() -> None:
    nova = strategy_named("fednova")
    training = Training(epochs=2, batch_size=16)
    assert not nova.fault(nova.Settings(), training, an_update(33, steps=6))
    said = nova.fault(nova.Settings(), training, an_update(33, steps=7))
    assert said == "claims 7 steps; 33 samples come to 6"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.momentum=0.5", "training.proximal=0.1"], "not with both"),
        (["training.learning_rate=2", "training.proximal=0.5"], "must be below 1"),
    ],
)
def test_what_fednova_has_no_formula_for_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        local_method.training(config("aggregation=fednova", *overrides))


# q-FedAvg


@pytest.mark.parametrize("q", [0.0, 0.5, 2.0, 5.0])
def test_qfedavg_is_the_papers_step(q: float) -> None:
    losses = np.random.default_rng(3).uniform(0.1, 4, len(SAMPLES))
    training = Training(learning_rate=0.25)
    found = played(
        strategy_named("qfedavg"),
        answers(CHANGES, SAMPLES),
        [{"base_loss": float(loss)} for loss in losses],
        training,
        q=q,
        loss_max=4.0,
        rate=3.0 if q else 1.0,
    )
    lipschitz, top, bottom = 4.0, np.zeros(SIZE), 0.0
    for count, loss, change in zip(SAMPLES, losses, CHANGES.astype(np.float64), strict=True):
        delta = -lipschitz * change
        top += count * loss**q * delta
        bottom += count * (q * loss ** (q - 1) * delta @ delta + lipschitz * loss**q)
    np.testing.assert_allclose(found, BASE - (3.0 if q else 1.0) * top / bottom, rtol=1e-5)
    if q == 0:
        np.testing.assert_allclose(found, BASE + np.average(CHANGES, 0, SAMPLES), rtol=1e-5)


def test_small_losses_are_resolved_though_far_larger_ones_are_allowed() -> None:
    training, memory = Training(learning_rate=0.25), Memory()
    losses: list[dict[str, Any]] = [{"base_loss": 1e-3 * (n + 1)} for n in range(len(SAMPLES))]
    folded, fair = answers(CHANGES, SAMPLES), strategy_named("qfedavg")
    # q = 3: shares of 1e-15 where the highest loss is taken to be 100.
    played(fair, folded, losses, training, memory, q=3.0)
    assert memory["highest_loss"] == np.float32(0.012)
    found = played(fair, folded, losses, training, memory, q=3.0)
    exact = played(fair, folded, losses, training, q=3.0, loss_max=0.012)
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_a_loss_counts_as_no_more_than_twice_the_highest_of_the_round_before() -> None:
    fair, training = strategy_named("qfedavg"), Training(learning_rate=0.25)
    folded = answers(CHANGES[:2], SAMPLES[:2])
    after = [
        played(
            fair,
            folded,
            [{"base_loss": 1.0}, {"base_loss": claimed}],
            training,
            {"highest_loss": np.array([1.5], np.float32)},
        )
        for claimed in (2.0, 3.0, 50.0)
    ]
    assert not np.array_equal(after[0], after[1])
    assert np.array_equal(after[1], after[2])


@pytest.mark.parametrize("loss", [None, -0.1, 100.5, math.nan, math.inf])
def test_a_loss_that_is_none_is_refused(loss: float | None) -> None:
    fair = strategy_named("qfedavg")
    assert not fair.fault(fair.Settings(), Training(), an_update(base_loss=100.0))
    assert "loss_max is 100" in fair.fault(fair.Settings(), Training(), an_update(base_loss=loss))


# What they ask


@pytest.mark.parametrize(
    ("aggregation", "method", "said"),
    [
        ("fedavg", PLAIN, ""),
        ("fedprox", PLAIN, "proximal=0.01"),
        ("fedsgd", Method(sends="gradient"), "gradient"),
        ("fednova", Method(partial=True), "partial"),
        ("qfedavg", Method(tells_loss=True), "tells-loss"),
    ],
)
def test_what_each_asks_of_clients(aggregation: str, method: Method, said: str) -> None:
    chosen = config(f"aggregation={aggregation}")
    training, asked = local_method.training(chosen), local_method.asked(chosen)
    assert asked == method
    assert method_name(training, asked) == said
    # What is in the file beside it does not travel.
    assert type(training) is Training


def test_any_strategy_can_be_combined_with_a_proximal_term_and_personal_layers() -> None:
    chosen = config("aggregation=fedadam", "training.proximal=0.1", 'training.personal=["a.*"]')
    assert local_method.training(chosen).proximal == 0.1
    assert local_method.asked(chosen).personal == ("a.*",)


@pytest.mark.parametrize("aggregation", ["fedprox", "fedsgd"])
def test_a_proximal_term_that_contradicts_the_strategy_is_refused(aggregation: str) -> None:
    with pytest.raises(SettingsError, match=r"training\.proximal: "):
        local_method.training(config(f"aggregation={aggregation}", "training.proximal=0.1"))

"""What every aggregation strategy must hold to; a new file is tested by being in the folder."""

from types import ModuleType

import numpy as np
import pytest

from coordinator import aggregation
from coordinator.aggregation import Aggregation, fedavg
from fedmqtt import parts
from fedmqtt.fixed_point import ExactSum, fraction_bits
from fedmqtt.weights import Array

SIZE = 6
BASE = np.array([0, 0, 0, 1, 1, 1], np.float32)
BITS = fraction_bits(10.0, 100, 100)


@pytest.fixture(params=parts.names(aggregation))
def strategy(request: pytest.FixtureRequest) -> ModuleType:
    return parts.load(aggregation, request.param)


def build(strategy: ModuleType) -> Aggregation:
    built: Aggregation = strategy.build(strategy.Settings(), ExactSum(SIZE, BITS))
    return built


def changes(count: int) -> list[tuple[Array, int]]:
    chance = np.random.default_rng(0)
    return [
        (chance.uniform(-3, 3, SIZE).astype(np.float32), int(chance.integers(1, 100)))
        for _ in range(count)
    ]


def test_a_round_nobody_answered_keeps_the_model(strategy: ModuleType) -> None:
    np.testing.assert_array_equal(build(strategy).finish(BASE), BASE)


def test_one_client_moves_the_model_by_its_change(strategy: ModuleType) -> None:
    alone = build(strategy)
    alone.fold(np.full(SIZE, 0.5, np.float32), 7)
    np.testing.assert_allclose(alone.finish(BASE), BASE + 0.5, rtol=1e-6)


def test_clients_that_agree_are_followed(strategy: ModuleType) -> None:
    together = build(strategy)
    for sample_count in range(1, 11):
        together.fold(np.full(SIZE, -0.25, np.float32), sample_count)
    np.testing.assert_allclose(together.finish(BASE), BASE - 0.25, rtol=1e-6)


def test_the_order_of_answers_does_not_matter_for_a_single_bit(strategy: ModuleType) -> None:
    answers = changes(50)
    forwards, backwards = build(strategy), build(strategy)
    for change, sample_count in answers:
        forwards.fold(change, sample_count)
    for change, sample_count in reversed(answers):
        backwards.fold(change, sample_count)
    assert forwards.finish(BASE).tobytes() == backwards.finish(BASE).tobytes()


def test_the_next_model_is_one_and_the_base_is_left_as_it_was(strategy: ModuleType) -> None:
    before = BASE.copy()
    running = build(strategy)
    for change, sample_count in changes(5):
        kept = change.copy()
        running.fold(change, sample_count)
        np.testing.assert_array_equal(change, kept)
    after = running.finish(BASE)
    assert after.shape == BASE.shape
    assert after.dtype == np.float32
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(BASE, before)


def test_every_setting_has_a_default(strategy: ModuleType) -> None:
    strategy.Settings()


def test_fedavg_of_two_clients_by_hand() -> None:
    # 1 sample says +4, 3 samples say -2: (4 - 6) / 4 = -0.5, and half of that at rate 0.5.
    for rate, moved in [(1.0, -0.5), (0.5, -0.25)]:
        average = fedavg.build(fedavg.Settings(rate=rate), ExactSum(SIZE, BITS))
        average.fold(np.full(SIZE, 4, np.float32), 1)
        average.fold(np.full(SIZE, -2, np.float32), 3)
        assert average.finish(BASE).tolist() == (BASE + moved).tolist()

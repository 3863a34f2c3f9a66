"""A round's sum with noise: what is added, what is clipped, and that it comes again as it was."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from coordinator.config import FederationConfig
from coordinator.noise import differential_privacy
from coordinator.noise.differential_privacy import SIGMA, DifferentialPrivacy, Plan
from coordinator.noise.private_sum import PrivateRound, PrivateSum
from coordinator.sums.answers import Answers
from fedmqtt.messages import Update
from fedmqtt.privacy import chance
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array

KEY = bytes(range(32))
SIZE = 4000


def plan(sigma: float = 1.0, **more: Any) -> Plan:
    chosen = DifferentialPrivacy(
        noise="central", noise_multiplier=sigma, participations_max=3, **more
    )
    made = differential_privacy.plan(chosen, 64)
    assert made is not None
    return made


def private_sum(
    made: Plan,
    size: int = SIZE,
    number: int = 1,
    key: bytes = KEY,
    memory: dict[str, NDArray[Any]] | None = None,
) -> PrivateSum:
    kept = {} if memory is None else memory
    return PrivateSum(size, PrivateRound(made, key, number, kept, norm_max=1e6))


def ones(norm: float, size: int = SIZE) -> Array:
    return np.full(size, norm / math.sqrt(size), np.float32)


def mean_of(added: PrivateSum, *changes: Array) -> NDArray[np.float64]:
    for change in changes:
        added.add(change, 1)
    return added.mean()


def test_noise_has_the_deviation_that_was_promised() -> None:
    made = plan(sigma=3.0, clip_norm=2.0)
    found = mean_of(private_sum(made), *[np.zeros(SIZE, np.float32)] * 5)
    # sigma C / n, within five standard errors.
    assert found.std() == pytest.approx(3.0 * 2.0 / 5, rel=5 / math.sqrt(2 * SIZE))
    assert abs(found.mean()) < 5 * 3.0 * 2.0 / 5 / math.sqrt(SIZE)


def test_the_mean_is_under_the_noise() -> None:
    made = plan(sigma=0.01)
    direction = np.sign(np.arange(SIZE) - SIZE / 2).astype(np.float32)
    change = direction * np.float32(0.8 / math.sqrt(SIZE))
    found = mean_of(private_sum(made), change, change, change)
    along = float(found @ direction) / math.sqrt(SIZE)
    assert along == pytest.approx(0.8, abs=5 * 0.01 / 3)


def test_no_change_counts_for_more_than_the_clip_norm_and_weights_for_nothing() -> None:
    made, kept = plan(), private_sum(plan(), size=3)
    kept.add(np.array([3e6, -4e6, 0], np.float32), weight=1_000_000)
    kept.add(np.array([0, 0, 0.5], np.float32), weight=7)
    assert kept.weight == 2
    assert kept.total / made.clip_units == pytest.approx([0.6, -0.8, 0.5], abs=1e-6)


def test_a_stale_change_may_count_for_less_and_never_for_more() -> None:
    made, kept = plan(), private_sum(plan(), size=1)
    kept.add(np.array([9], np.float32), 5, share=0.25)
    assert kept.total / made.clip_units == pytest.approx([0.25], abs=1e-6)
    kept.add(np.array([9], np.float32), 5, share=40.0)
    assert kept.total / made.clip_units == pytest.approx([1.25], abs=1e-6)


@given(
    rows=st.lists(
        st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=6
    ),
    adaptive=st.booleans(),
)
def test_leaving_one_out_changes_the_sum_by_at_most_what_is_promised(
    rows: list[list[float]], adaptive: bool
) -> None:
    made = plan(sigma=0.7, adaptive=adaptive)

    def exact(those: list[list[float]]) -> NDArray[np.int64]:
        added = private_sum(made, size=3)
        for row in those:
            added.add(np.array(row, np.float32), 1)
        return np.append(added.total, added._indicators * made.indicator_units)

    changed = [int(one) for one in exact(rows) - exact(rows[1:])]
    assert sum(one * one for one in changed) <= (SIGMA / 0.7) ** 2


def test_what_was_sent_at_some_places_is_clipped_like_the_whole() -> None:
    made = plan()
    whole, part = private_sum(made, size=6), private_sum(made, size=6)
    whole.add(np.array([0, 3, 0, 0, -4, 0], np.float32), 1)
    part.add_at(np.array([1, 4]), np.array([3, -4], np.float32), 1)
    assert np.array_equal(whole.total, part.total)
    assert np.array_equal(whole.mean(), part.mean())


@pytest.mark.parametrize("mechanism", ["independent", "tree"])
def test_it_is_the_same_in_any_order_and_however_often(mechanism: str) -> None:
    made = plan(mechanism=mechanism)
    changes = [ones(norm) for norm in (0.5, 3.0, 1e-3)]
    first = mean_of(private_sum(made, number=6), *changes)
    again = private_sum(made, number=6)
    for change in reversed(changes):
        again.add(change, 1)
    assert first.tobytes() == again.mean().tobytes() == again.mean().tobytes()


def test_another_sum_and_another_round_have_noise_of_their_own() -> None:
    """Else the difference of two models would show what the sums differ in."""
    made, zeros = plan(), np.zeros(SIZE, np.float32)
    one = mean_of(private_sum(made), zeros, zeros)
    step = zeros.copy()
    step[0] = 1e-3
    others = [
        mean_of(private_sum(made), zeros, step),
        mean_of(private_sum(made, number=2), zeros, zeros),
        mean_of(private_sum(made, key=bytes(32)), zeros, zeros),
    ]
    for other in others:
        # Of noise with deviation 1/2 each; the same noise would leave 1e-3 at most.
        assert (one - other).std() == pytest.approx(math.sqrt(0.5), rel=0.1)


def test_noise_of_a_tree_cancels_over_rounds() -> None:
    made, zeros = plan(mechanism="tree"), np.zeros(SIZE, np.float32)
    total = np.sum([mean_of(private_sum(made, number=n), zeros) for n in range(1, 65)], axis=0)
    # After 64 rounds one node has it all; with noise of their own it would be 8.
    assert total.std() == pytest.approx(1.0, rel=0.1)


def test_an_adaptive_clip_norm_goes_where_the_norms_are_and_is_remembered() -> None:
    made, memory = plan(sigma=0.1, adaptive=True, clip_norm=1.0), {}  # type: ignore[var-annotated]
    for number in range(1, 100):
        added = private_sum(made, size=5, number=number, memory=memory)
        for norm in range(1, 41):
            added.add(np.array([norm, 0, 0, 0, 0], np.float32), 1)
        added.mean()
    # The median of norms 1 to 40, under the noise of about half a device.
    (clip,) = memory["differential_privacy.clip"]
    assert 17 <= clip <= 24


def test_a_fixed_clip_norm_writes_nothing() -> None:
    memory: dict[str, NDArray[Any]] = {}
    mean_of(private_sum(plan(), memory=memory), ones(3.0))
    assert memory == {}


# In the data plane


def answers(folder: Path, aggregation: str = "fedavg", **chosen: Any) -> Answers:
    chosen = {"noise_multiplier": 1.0, "participations_max": 3} | chosen
    config = FederationConfig(
        name="f",
        task="learning_tasks.linear",
        aggregation=aggregation,
        differential_privacy=DifferentialPrivacy(noise="central", **chosen),
    )
    return Answers(config, SIZE, 10, folder, noise_key=KEY)


def update(change: Array, **more: Any) -> Update:
    return Update(
        run=RunId("r"),
        round=RoundId(1),
        base=Digest("0" * 64),
        fingerprint="f",
        codec="full",
        payload=memoryview(change.astype("<f4").tobytes()),
        **more,
    )


def fold(plane: Answers, *changes: Array, number: int = 1) -> Array:
    plane.begin(10, RoundId(number))
    for n, change in enumerate(changes):
        name = ClientId(f"c{n}")
        answer = update(change, sample_count=10**n, metrics={"loss": 123.25})
        assert plane.check(name, answer) == ""
        plane.fold(name, answer, evaluates=False)
        plane.let_go()
    return plane.finish(np.zeros(SIZE, np.float32))


def test_a_strategy_steps_by_the_mean_with_noise(tmp_path: Path) -> None:
    changes = [ones(0.5), ones(2.0)]
    expected = mean_of(private_sum(plan()), *changes).astype(np.float32)
    assert np.array_equal(fold(answers(tmp_path), *changes), expected)


@pytest.mark.parametrize("aggregation", ["fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedbuff"])
def test_so_do_the_others_that_are_means(tmp_path: Path, aggregation: str) -> None:
    """Nothing of the answers goes past the noise: another key makes another model."""
    plane = answers(tmp_path, aggregation)
    model = fold(plane, ones(0.5))
    assert np.array_equal(model, fold(answers(tmp_path, aggregation), ones(0.5)))
    plane = answers(tmp_path, aggregation)
    plane._noise_key = bytes(32)
    assert (model == fold(plane, ones(0.5))).mean() < 0.01


def test_sample_counts_and_metrics_of_answers_are_not_told(tmp_path: Path) -> None:
    plane = answers(tmp_path)
    fold(plane, ones(0.5), ones(0.5))
    assert plane.samples == 2
    assert plane.train_metrics() == {}


def test_the_clip_norm_of_the_next_round_is_in_what_is_remembered(tmp_path: Path) -> None:
    plane = answers(tmp_path, adaptive=True)
    fold(plane, ones(9.0), ones(9.0), ones(9.0))
    first = dict(plane.memory)
    fold(plane, ones(9.0), number=2)
    assert first["differential_privacy.clip"] != plane.memory["differential_privacy.clip"]
    # Killed and started again after the first round, it makes the same second one.
    config = plane._config
    again = Answers(config, SIZE, 10, tmp_path, memory=first, noise_key=KEY)
    assert np.array_equal(
        fold(again, ones(9.0), number=2), _second(answers(tmp_path, adaptive=True))
    )


def _second(plane: Answers) -> Array:
    fold(plane, ones(9.0), ones(9.0), ones(9.0))
    return fold(plane, ones(9.0), number=2)


def test_noise_without_a_key_is_none(tmp_path: Path) -> None:
    config = answers(tmp_path)._config
    with pytest.raises(AssertionError, match="key"):
        Answers(config, SIZE, 10, tmp_path)


def test_the_key_is_as_long_as_streams_need() -> None:
    assert len(KEY) == chance.KEY_BYTES

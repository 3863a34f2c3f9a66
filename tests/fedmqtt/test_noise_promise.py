"""What an offer's noise promises, and offers that promise nothing though they say so."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmqtt import masks_promise, noise_promise
from fedmqtt.privacy import clipping, gaussian, noise
from tests.fedmqtt.masking import cohort


def _noised(**changes: Any) -> Any:
    return cohort.masking(norm_max=0.5, noise=2.0, norm_steps=1000, **changes)


@given(st.floats(0.01, 100), st.integers(10_000, 160_000))
def test_the_noise_is_no_less_than_it_is_said_to_be(multiplier: float, steps: int) -> None:
    vectors, indicators = clipping.split(multiplier)
    how = structs.replace(_noised(), noise=vectors, indicator=indicators, norm_steps=steps)
    assert noise_promise.multiplier(how) == pytest.approx(multiplier)
    # What a device can change: its vector, and its indicator from up to down.
    changed = math.hypot(steps, 2 * noise_promise.indicator_steps(how))
    assert noise_promise.deviation(how) / changed >= multiplier * (1 - 1e-12)
    assert noise_promise.deviation(how) / changed == pytest.approx(multiplier, rel=0.02)


def _epsilon(deviation: int, changed: int) -> float:
    """At delta 1e-5, of one number that can change by so many steps: by its definition."""
    far = 14 * deviation + changed
    told = np.arange(-far, far + 1)
    chances = np.exp(-(told**2) / (2 * deviation**2))
    chances /= chances.sum()
    lost = (2 * told + changed) * changed / (2 * deviation**2)
    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        delta = np.sum(chances * np.clip(1 - np.exp(middle - lost), 0, None))
        low, high = (middle, high) if delta > 1e-5 else (low, middle)
    return high


@pytest.mark.parametrize("changed", [1, 4, 16, 32, 64])
def test_what_epsilon_says_of_a_smooth_gaussian_holds_of_one_on_whole_numbers(changed: int) -> None:
    least = noise_promise.DEVIATION_MIN
    said = gaussian.epsilon(1.0, (changed / least) ** 2, 1e-5)
    assert _epsilon(least, changed) < said + 0.01
    # Of fewer steps it would not.
    assert _epsilon(1, 1) > gaussian.epsilon(1.0, 1.0, 1e-5) + 0.05


def test_without_an_indicator_the_vectors_noise_is_all() -> None:
    assert noise_promise.multiplier(_noised()) == 2.0
    assert noise_promise.deviation(_noised()) == 2000
    assert noise_promise.indicator_steps(_noised()) == 0
    assert noise_promise.multiplier(cohort.masking()) == 0.0
    assert noise_promise.deviation(cohort.masking()) == 0


def test_as_much_is_drawn_as_is_promised_at_most() -> None:
    assert noise_promise.DEVIATION_MAX == noise.SIGMA_MAX


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"noise": 0.0}, "a norm in steps"),
        ({"norm_steps": 0}, "noise of 0 steps is not 16 to 16777216"),
        ({"norm_steps": 7}, "noise of 14 steps is not 16 to 16777216: fewer are too coarse"),
        ({"norm_steps": 2**24}, "noise of 33554432 steps is not 16 to 16777216"),
        ({"weight_max": 2}, "all answers count the same"),
        ({"ranges": (0.5,)}, "all their numbers have one range"),
        ({"lists_max": 2, "keyholders": cohort.masking().keyholders[:2]}, "a key is for one list"),
        ({"times_max": 2}, "each answer on it counts once"),
        ({"clients_max": 2}, "each answer is of one device"),
        ({"indicator": 1e6}, "an indicator of no steps"),
    ],
)
def test_no_client_masks_for_a_promise_that_is_none(changes: dict[str, Any], why: str) -> None:
    assert not noise_promise.fault(_noised()) and not masks_promise.fault(_noised())
    wrong = structs.replace(_noised(), **changes)
    assert why in noise_promise.fault(wrong)
    assert masks_promise.fault(wrong) == noise_promise.fault(wrong)

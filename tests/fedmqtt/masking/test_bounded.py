"""The norm of what is sent is bounded to the last step, however it is rounded."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedmqtt.codec_chance import Chance
from fedmqtt.masking import bounded

OWN = Chance("a test's")
NUMBERS = arrays.arrays(
    np.float64, st.integers(0, 40), elements=st.floats(-8e6, 8e6, allow_subnormal=False)
)


def _norm(numbers: np.ndarray) -> int:
    """Squared, by Python's whole numbers."""
    return sum(int(one) ** 2 for one in numbers)


@given(NUMBERS, st.integers(0, 2**25), st.booleans())
def test_no_vector_is_longer_than_its_bound(
    numbers: np.ndarray, bound: int, at_random: bool
) -> None:
    found = bounded.whole(numbers, bound, OWN if at_random else None)
    assert _norm(found) == bounded.squared_norm(found) <= bound**2


def test_towards_zero_and_no_number_moves_that_need_not() -> None:
    numbers = np.array([2.9, -2.9, 0.4, 5.0])
    assert bounded.whole(numbers, 100, None).tolist() == [2, -2, 0, 5]
    # The nearest would have a norm of 3: more than the vector's own.
    assert bounded.whole(np.array([1.6, 1.6, 1.6]), 2, None).tolist() == [1, 1, 1]


def test_a_vector_at_its_bound_keeps_what_whole_numbers_can() -> None:
    long = np.full(10_000, 1000.9)
    found = bounded.whole(long, 50_000, None)
    assert 0.99 * 50_000 < math.sqrt(bounded.squared_norm(found)) <= 50_000


def test_squares_are_added_up_exactly_beyond_what_64_bits_hold() -> None:
    numbers = np.full(300_000, 2**23 - 1, np.int64)
    assert bounded.squared_norm(numbers) == 300_000 * (2**23 - 1) ** 2 > 2**63


@pytest.mark.parametrize("size", [650, 100_000])
def test_at_random_the_mean_is_right_and_the_bound_is_seldom_missed(size: int) -> None:
    numbers = np.random.default_rng(size).normal(size=size)
    numbers *= 90 / np.linalg.norm(numbers)
    bound = bounded.norm_steps(90.0, size, at_random=True)
    # Far above the clip norm: most of it is rounding.
    assert 90 < bound <= 90 + math.sqrt(size)
    drawn = [bounded.whole(numbers, bound, Chance(f"client {n}")) for n in range(100)]
    first = [
        np.floor(numbers + Chance(f"client {n}").uniform("rounding", size)) for n in range(100)
    ]
    # The first attempt each time.
    assert all(np.array_equal(one, other) for one, other in zip(drawn, first, strict=True))
    error = (np.mean(drawn, axis=0) - numbers).mean()
    assert abs(error) < 5 * math.sqrt(0.25 / size / 100)


def test_what_is_too_long_at_random_is_tried_again_with_other_chance() -> None:
    numbers = np.full(400, 0.5)
    drawn = [int(np.floor(numbers + OWN.uniform(name, 400)).sum()) for name in ("rounding",)]
    # One step less than the first attempt has ones, and so norm.
    bound = math.isqrt(drawn[0] - 1)
    found = bounded.whole(numbers, bound, OWN)
    assert bounded.squared_norm(found) <= bound**2
    assert found.sum() != drawn[0]


def test_more_bits_for_a_value_need_no_larger_bound() -> None:
    assert bounded.norm_steps(1234.9, 10**6, at_random=False) == 1234
    # By hand: sqrt(10^2 + 1 + 3.717 * (10 + 1)) = 11.92, and 10 + 2 = 12.
    assert bounded.norm_steps(10.0, 4, at_random=True) == 12
    assert bounded.norm_steps(1.0, 4, at_random=True) == 3

"""Ranks: each given once, in the order of the data as far as asked, never by accident."""

import math
from random import Random
from statistics import correlation as pearson
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_sim.ranks import ranks

KEYS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=50)
CORRELATIONS = st.floats(0, 1)


@given(KEYS, CORRELATIONS, st.integers(0, 1000))
def test_each_rank_is_given_once(keys: list[float], correlation: float, seed: int) -> None:
    count = len(keys)
    found = ranks(count, keys, correlation, Random(seed))
    assert sorted(found) == [(place + 0.5) / count for place in range(count)]
    assert found == ranks(count, keys, correlation, Random(seed))


@given(KEYS, st.integers(0, 1000))
def test_a_correlation_of_one_sorts_exactly(keys: list[float], seed: int) -> None:
    found = ranks(len(keys), keys, 1.0, Random(seed))
    by_rank = [key for _, key in sorted(zip(found, keys, strict=True))]
    assert by_rank == sorted(keys)


@given(KEYS, st.integers(0, 1000))
def test_without_a_correlation_the_keys_change_nothing(keys: list[float], seed: int) -> None:
    count = len(keys)
    assert ranks(count, keys, 0.0, Random(seed)) == ranks(count, None, 0.0, Random(seed))


def test_equal_keys_are_put_in_an_order_by_chance() -> None:
    # By position, the first client of a class would always be the one that is online least.
    firsts = [ranks(2, [1.0, 1.0], 1.0, Random(seed))[0] for seed in range(200)]
    assert 0.4 < firsts.count(0.25) / 200 < 0.6


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.95])
def test_the_strength_is_what_was_asked_for(correlation: float) -> None:
    keys = [float(n) for n in range(1000)]
    found = [pearson(ranks(1000, keys, correlation, Random(seed)), keys) for seed in range(20)]
    # One run's deviates by about 0.03, so the mean of twenty by 0.007.
    assert mean(found) == pytest.approx(6 / math.pi * math.asin(correlation / 2), abs=0.03)

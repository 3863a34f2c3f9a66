"""Clipping: no vector counts for more than the norm it is clipped to."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmqtt.fixed_point import squared_norm
from fedmqtt.privacy import clipping, gaussian

UNITS = 2**24


def _whole(values: np.ndarray, clip: float, units: int) -> np.ndarray:
    norm = math.sqrt(squared_norm(values))
    scaled = values.astype(np.float64) * clipping.factor(norm, clip, units)
    return np.trunc(scaled).astype(np.int64)


@given(
    values=arrays(
        np.float32, st.integers(1, 50), elements=st.floats(-(2.0**30), 2.0**30, width=32)
    ),
    clip=st.floats(1e-6, 1e6),
    units=st.integers(1, 2**40),
)
def test_the_norm_in_whole_numbers_is_never_above(
    values: np.ndarray, clip: float, units: int
) -> None:
    whole = [int(one) for one in _whole(values, clip, units)]
    assert sum(one * one for one in whole) <= units * units


def test_what_is_short_enough_stays_as_it_is_to_a_step() -> None:
    values = np.array([0.3, -0.4, 0.0], np.float32)
    assert _whole(values, 1.0, UNITS) / UNITS == pytest.approx(values, abs=1 / UNITS)


def test_what_is_too_long_keeps_its_direction() -> None:
    values = np.array([30, -40], np.float32)
    assert _whole(values, 1.0, UNITS) / UNITS == pytest.approx([0.6, -0.8], abs=1 / UNITS)


def test_zeros_stay_zeros() -> None:
    assert not _whole(np.zeros(3, np.float32), 1.0, UNITS).any()


@given(st.floats(0.1, 100), st.floats(0.01, 0.99))
def test_both_noises_together_promise_what_one_would(sigma: float, share: float) -> None:
    vectors, indicator = clipping.split(sigma, share)
    assert vectors > sigma and indicator > sigma
    together = 1 / vectors**2 + 1 / indicator**2
    assert gaussian.epsilon(1.0, together, 1e-5) == pytest.approx(
        gaussian.epsilon(sigma, 1, 1e-5), rel=1e-9
    )


def test_the_indicator_takes_little_from_the_vectors() -> None:
    assert clipping.split(1.0)[0] == pytest.approx(1.026, abs=1e-3)


def test_the_clip_norm_goes_towards_the_quantile() -> None:
    # Nobody is below it: it grows by e^(0.2 / 2). All are: it shrinks by as much.
    assert clipping.following(1.0, 0.0, 0.5, 100.0) == pytest.approx(math.exp(0.1), rel=1e-9)
    assert clipping.following(1.0, 1.0, 0.5, 100.0) == pytest.approx(math.exp(-0.1), rel=1e-9)
    assert clipping.following(3.0, 0.5, 0.5, 100.0) == 3.0


def test_noise_cannot_throw_the_clip_norm_far() -> None:
    assert clipping.following(1.0, -1e9, 0.5, 100.0) == clipping.following(1.0, 0.0, 0.5, 100.0)
    assert clipping.following(1.0, 1e9, 0.5, 100.0) == clipping.following(1.0, 1.0, 0.5, 100.0)
    assert clipping.following(99.0, 0.0, 0.5, 100.0) == 100.0
    assert clipping.following(1.05, 1.0, 0.5, 100.0, 1.0) == 1.0


def test_it_finds_the_median_of_norms_and_stays_there() -> None:
    norms = np.geomspace(0.01, 100, 1001)
    clip = 50.0
    for _ in range(400):
        clip = clipping.following(clip, float((norms <= clip).mean()), 0.5, 1e9)
    assert clip == pytest.approx(float(np.median(norms)), rel=0.02)

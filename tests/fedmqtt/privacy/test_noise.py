"""Noise in whole numbers: against the exact distributions, on chance with a fixed key."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmqtt.privacy import chance, gaussian, noise
from fedmqtt.privacy.chance import Bits

COUNT = 200_000


def _bits(*context: object) -> Bits:
    return chance.keyed(b"a key for tests, known to anybody", repr(context).encode())


def _gaussian_masses(sigma: int, reach: int) -> dict[int, float]:
    masses = {k: math.exp(-k * k / (2 * sigma**2)) for k in range(-reach, reach + 1)}
    total = math.fsum(masses.values())
    return {k: mass / total for k, mass in masses.items()}


def _chi_square(drawn: NDArray[np.int64], masses: dict[int, float]) -> tuple[float, int]:
    """Over all values that are expected ten times or more; the rest is one more cell."""
    cells = {k: mass * drawn.size for k, mass in masses.items() if mass * drawn.size >= 10}
    found = {k: int(np.count_nonzero(drawn == k)) for k in cells}
    rest, seen = drawn.size - sum(cells.values()), drawn.size - sum(found.values())
    square = sum((found[k] - cells[k]) ** 2 / cells[k] for k in cells)
    return square + (seen - rest) ** 2 / max(rest, 1.0), len(cells)


def _is_likely(square: float, freedom: int) -> bool:
    """Below the 99.99th percentile, by Wilson and Hilferty."""
    spread = 2 / (9 * freedom)
    return bool(square < freedom * (1 - spread + 3.72 * math.sqrt(spread)) ** 3)


@pytest.mark.parametrize("sigma", [1, 2, 3, 7, 40])
def test_a_discrete_gaussian_has_its_exact_distribution(sigma: int) -> None:
    drawn = noise.discrete_gaussian(sigma, COUNT, _bits("gaussian", sigma))
    assert _is_likely(*_chi_square(drawn, _gaussian_masses(sigma, 40 * sigma)))


def test_the_test_tells_two_distributions_of_the_same_variance_apart() -> None:
    poisson = np.random.default_rng(1).poisson(4.5, (2, COUNT))
    drawn = poisson[0] - poisson[1]
    assert not _is_likely(*_chi_square(drawn, _gaussian_masses(3, 100)))


@pytest.mark.parametrize("sigma", [2**10, 2**24])
def test_moments_are_right(sigma: int) -> None:
    """Within five standard errors."""
    scaled = noise.discrete_gaussian(sigma, COUNT, _bits(sigma)) / sigma
    error = 5 / math.sqrt(COUNT)
    assert abs(scaled.mean()) < error
    assert abs((scaled**2).mean() - 1) < error * math.sqrt(2)
    assert abs((scaled**4).mean() - 3) < error * math.sqrt(96)


def test_large_noise_has_no_grid_of_its_own() -> None:
    """Low digits of wide noise are as good as chance: 16 cells, each as often as any other."""
    drawn = noise.discrete_gaussian(noise.SIGMA_MAX, COUNT, _bits("low"))
    masses = dict.fromkeys(range(16), 1 / 16)
    assert _is_likely(*_chi_square(drawn & 15, masses))


def test_the_same_bits_give_the_same_noise_and_others_other() -> None:
    one = noise.discrete_gaussian(100, 1000, _bits("one"))
    assert np.array_equal(one, noise.discrete_gaussian(100, 1000, _bits("one")))
    assert not np.array_equal(one, noise.discrete_gaussian(100, 1000, _bits("two")))
    assert noise.discrete_gaussian(100, 0, _bits("none")).shape == (0,)


def test_no_number_depends_on_the_one_before() -> None:
    drawn = noise.discrete_gaussian(1000, COUNT, _bits("in a row")) / 1000
    assert abs((drawn[1:] * drawn[:-1]).mean()) < 5 / math.sqrt(COUNT)


@pytest.mark.parametrize("sigma", [0, -1, noise.SIGMA_MAX + 1])
def test_noise_that_cannot_be_drawn_exactly_is_refused(sigma: int) -> None:
    with pytest.raises(ValueError, match="not from 1 to"):
        noise.discrete_gaussian(sigma, 1, _bits())


def test_a_number_at_a_boundary_is_decided_by_further_bits() -> None:
    # 64 bits just of the boundary between 0 and 1: what follows decides.
    third = (1 << 320) // 3
    table = noise._Table([third, third, third])
    head = ((1 << 64) // 3).to_bytes(8, "little")
    exact = Fraction(1, 3) * 2**192 - ((1 << 64) // 3) * 2**128
    below, above = int(exact) - 1, int(exact) + 1
    for tail, wanted in ((below, 0), (above, 1)):
        words = [head, tail.to_bytes(16, "little")]
        assert table.draw(1, lambda _size, words=words: words.pop(0))[0] == wanted  # type: ignore[misc]


def test_chances_of_whole_numbers_are_even() -> None:
    drawn = noise._below(12, 120_000, _bits("below"))
    assert _is_likely(*_chi_square(drawn, dict.fromkeys(range(12), 1 / 12)))
    # The last few words would make small numbers come more often: they are drawn again.
    last = [b"\xff" * 8, (7).to_bytes(8, "little")]
    assert noise._below(12, 1, lambda _size: last.pop(0))[0] == 7


@pytest.mark.parametrize("sigma", [4, 8, 16])
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0])
def test_the_slack_covers_what_whole_numbers_cost(sigma: int, epsilon: float) -> None:
    """One number, sensitivity sigma / 2: delta by the sum over all outputs, against the formula."""
    shift = sigma // 2
    masses = _gaussian_masses(sigma, 30 * sigma)
    here = np.array([masses[k] for k in range(-29 * sigma, 29 * sigma)])
    there = np.array([masses[k + shift] for k in range(-29 * sigma, 29 * sigma)])
    true_delta = float(np.maximum(here - math.exp(epsilon) * there, 0).sum())
    multiplier = sigma / shift
    slack = noise.grid_slack(sigma, 1)
    assert true_delta <= gaussian.delta(multiplier, max(0.0, epsilon - slack))
    assert true_delta == pytest.approx(gaussian.delta(multiplier, epsilon), rel=0.2)


def test_the_slack_is_nothing_on_the_finest_grid() -> None:
    assert noise.grid_slack(noise.SIGMA_MAX, 10**9) < 3e-6


@pytest.mark.parametrize(("sigma", "count"), [(1, 2), (1, 3), (1, 6)])
def test_a_sum_of_discrete_gaussians_is_nearly_one(sigma: int, count: int) -> None:
    """Exactly convolved, against the one of their joint variance: as near as is said."""
    reach = 12 * sigma
    one = np.array([*_gaussian_masses(sigma, reach).values()])
    total = one
    for _ in range(count - 1):
        total = np.convolve(total, one)
    places = np.arange(total.size) - total.size // 2
    wanted = np.exp(-(places**2) / (2 * count * sigma**2))
    wanted /= wanted.sum()
    # Where neither is cut off.
    near = np.abs(places) < 6 * sigma
    found = np.abs(np.log(total[near] / wanted[near])).max()
    assert 1e-12 < found <= noise.sum_slack(sigma, count, 1) / 2


def test_at_our_deviations_a_sum_of_them_costs_nothing() -> None:
    assert noise.sum_slack(20, 6, 10**9) == 0.0
    assert noise.sum_slack(1, 1, 10**9) == 0.0

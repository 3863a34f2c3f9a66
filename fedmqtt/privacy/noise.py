"""Noise in whole numbers, drawn exactly: from bits, by comparisons of whole numbers.

A sum of whole numbers with such noise says nothing by its low digits, as one of floats does
(Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS 2012).

Discrete Gaussian, P(y) in proportion to exp(-y^2 / (2 sigma^2)): two-sided geometric numbers, of
which some are refused. Source: Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential
Privacy", NeurIPS 2020, algorithms 1 to 3, with their t = sigma, so that every comparison is one of
whole numbers below 2^63.

All arrays are little-endian however the machine is, and the same bits give the same noise.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedmqtt.privacy.chance import Bits

Whole = NDArray[np.int64]
Words = NDArray[np.uint64]

SIGMA_MAX = 2**24
"""Comparisons are of numbers below 2^63 up to there."""

_HOPS_MAX = 127
"""A two-sided geometric number of so many sigma comes with probability e^-127, and none above."""
_BLOCK = 1 << 16
"""Numbers that are drawn at a time."""
_TABLE_BITS = 192
_SIDE_BITS = 320
"""Of the fixed point in which tables are made: rounding does not reach what is kept of it."""


def discrete_gaussian(sigma: int, count: int, bits: Bits) -> Whole:
    """`count` independent ones with this parameter, a whole number; shape (count,).

    Its standard deviation is sigma, to less than a millionth of it.
    """
    if not 1 <= sigma <= SIGMA_MAX:
        raise ValueError(f"sigma is {sigma}, not from 1 to {SIGMA_MAX}")
    drawn: Whole = np.empty(count, np.int64)
    have = 0
    while have < count:
        # Of those that are proposed, about half are refused.
        more = _accepted(sigma, min(_BLOCK, 2 * (count - have) + 16), bits)
        more = more[: count - have]
        drawn[have : have + more.size] = more
        have += more.size
    return drawn


def grid_slack(sigma: float, numbers: int) -> float:
    """By how much more epsilon may be than `gaussian.py` says, with discrete noise of so many
    numbers in all; at a delta that is larger by e^-60.

    Gaussian noise that is rounded to whole numbers guarantees what it did before. The discrete
    Gaussian is not quite that: the logarithm of the ratio of the two, at k, is between
    -k^2 / (8 sigma^4) and 1 / (20 sigma^2), as cosh(y) is from 1 to exp(y^2 / 2). Of N numbers the
    sum of k^2 / sigma^2 is below 2 N + 180 but with probability e^-60 (Laurent and Massart 2000,
    lemma 1), and it counts for either neighbour.
    """
    return 2 * ((2 * numbers + 180) / 8 + numbers / 20) / sigma**2


def sum_slack(sigma: int, count: int, numbers: int) -> float:
    """By how much epsilon may be larger for a sum of `count` of these than for one of their joint
    variance, of so many numbers in all: for deviations above 10 it is 0 in a double.

    The logarithm of the ratio of the two is within 10 sum_k exp(-2 pi^2 sigma^2 k / (k + 1)), k
    from 1 to count - 1, and it counts for either neighbour. Source: Kairouz, Liu and Steinke,
    "The Distributed Discrete Gaussian Mechanism", ICML 2021, theorem 1.
    """
    terms = (math.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1)) for k in range(1, count))
    return 2 * numbers * 10 * math.fsum(terms)


# Discrete Gaussian


def _accepted(sigma: int, count: int, bits: Bits) -> Whole:
    """What is left of `count` proposals, and not known to be how many."""
    proposed = _two_sided_geometric(sigma, count, bits)
    # exp(-(|y| - sigma)^2 / (2 sigma^2)): its whole part and its fraction.
    whole, rest = np.divmod(np.square(np.abs(proposed) - sigma), 2 * sigma**2)
    passed = _geometric_table().draw(whole.size, bits) >= whole
    proposed, rest = proposed[passed], rest[passed]
    kept: Whole = proposed[_happens(rest, 2 * sigma**2, bits)]
    return kept


def _two_sided_geometric(scale: int, count: int, bits: Bits) -> Whole:
    """P(y) in proportion to exp(-|y| / scale): what is left of `count` proposals."""
    steps = _below(scale, count, bits)
    steps = steps[_happens(steps, scale, bits)]
    magnitudes = steps + scale * _geometric_table().draw(steps.size, bits)
    is_negative = _coins(magnitudes.size, bits)
    # 0 would come twice as often as it should, once with each sign.
    kept = ~(is_negative & (magnitudes == 0))
    signed: Whole = np.where(is_negative, -magnitudes, magnitudes)[kept]
    return signed


def _happens(numerators: Whole, denominator: int, bits: Bits) -> NDArray[np.bool_]:
    """Each with probability exp(-numerator / denominator), of a fraction up to 1.

    Von Neumann's way: it fails at the first k at which a chance of fraction / k fails, and happens
    where that k is odd.
    """
    happened = np.zeros(numerators.size, np.bool_)
    going = np.arange(numerators.size)
    k = 1
    while going.size:
        goes_on = _below(k * denominator, going.size, bits) < numerators[going]
        if k % 2:
            happened[going[~goes_on]] = True
        going = going[goes_on]
        k += 1
    return happened


@lru_cache(maxsize=1)
def _geometric_table() -> "_Table":
    """P(v) = (1 - 1/e) e^-v."""
    one = 1 << _SIDE_BITS
    inverse, term, k = 0, one, 0
    while term:
        inverse += term if k % 2 == 0 else -term
        k += 1
        term = one // math.factorial(k)
    masses, left = [], one
    for _ in range(_HOPS_MAX):
        following = left * inverse >> _SIDE_BITS
        masses.append(left - following)
        left = following
    return _Table([*masses, left])


# Whole numbers from bits


class _Table:
    """Draws by comparing a number in [0, 1) with 0, P(0), P(0) + P(1), ...

    64 bits decide, but where they are just those of a boundary: then others are drawn below them.
    """

    def __init__(self, masses: Sequence[int]) -> None:
        """In units of 2^-`_SIDE_BITS`, of 0, 1, 2 and so on; the last takes what is missing."""
        self._bounds: list[int] = []
        passed = 0
        for mass in masses[:-1]:
            passed += mass
            self._bounds.append(passed >> (_SIDE_BITS - _TABLE_BITS))
        heads = [bound >> (_TABLE_BITS - 64) for bound in self._bounds]
        self._heads: Words = np.array([min(head, 2**64 - 1) for head in heads], np.uint64)

    def draw(self, count: int, bits: Bits) -> Whole:
        words = _words(count, bits)
        drawn = np.searchsorted(self._heads, words, side="right")
        # Heads grow: a word that is one of them is the last that it is not below.
        is_head = (drawn > 0) & (self._heads[drawn - 1] == words)
        for place in np.flatnonzero(is_head):
            tail = int.from_bytes(bits((_TABLE_BITS - 64) // 8), "little")
            drawn[place] = bisect_right(self._bounds, int(words[place]) << 128 | tail)
        return drawn.astype(np.int64)


def _below(bound: int, count: int, bits: Bits) -> Whole:
    """Each of 0 to bound - 1 as often as any other; `bound` at most 2^62."""
    words = _words(count, bits)
    # The last few of 2^64 would make some come more often.
    admitted = 2**64 - 2**64 % bound
    if admitted < 2**64:
        while (over := np.flatnonzero(words >= np.uint64(admitted))).size:
            words[over] = _words(over.size, bits)
    return (words % np.uint64(bound)).astype(np.int64)


def _coins(count: int, bits: Bits) -> NDArray[np.bool_]:
    octets = np.frombuffer(bits(-(-count // 8)), np.uint8)
    return np.unpackbits(octets, count=count).astype(np.bool_)


def _words(count: int, bits: Bits) -> Words:
    return np.frombuffer(bits(8 * count), "<u8").astype(np.uint64)

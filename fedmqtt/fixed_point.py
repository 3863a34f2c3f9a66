"""Sums that come out the same in any order: fixed-point integers instead of floats.

A float sum depends on the order of its terms, and clients answer in any order. Here every
weighted change is rounded once to a multiple of 2^-f and added as a 64-bit integer:

    q_i = rint(w_i * d_i * 2^f)        total = sum q_i (exact)        mean = total / (2^f * sum w_i)

f is chosen before the round opens, from bounds that every update is checked against, so that the
sum cannot overflow whatever the clients send. The rounding error of the mean is below
2^-(f+1) * n / sum w_i: far under the resolution of a float32 weight. Integer sums are also what
masking needs (secure aggregation adds modulo 2^64).
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedmqtt.weights import Array

Total = NDArray[np.int64]

_BLOCK = 32_768  # numbers; the three buffers of a block stay in the second-level cache


def fraction_bits(change_max: float, weight_max: int, terms_max: int) -> int:
    """The largest f for which `terms_max` terms of |w * d| <= weight_max * change_max fit.

    Raises ValueError when the bounds leave no fraction at all.
    """
    bits = 62 - math.ceil(math.log2(change_max * weight_max * max(1, terms_max)))
    if bits < 1:
        raise ValueError(
            f"changes up to {change_max} with weights up to {weight_max} from {terms_max} clients"
            " do not fit 64 bits"
        )
    # Above 2^52 a double has no fraction left to round, and more bits would say nothing more.
    return min(bits, 52)


def largest_sum(change_max: float, weight: int, bits: int, terms: int) -> int:
    """Beyond it, on either side of 0, no number is of a sum of so many terms |w * d| that weigh
    `weight` together: in units of 2^-bits.

    Each term was rounded once, by half a unit at most, and to no more than twice what it was: who
    chooses the unit, and makes it a large one, gains no more by that.
    """
    # A double has no room for all places of it.
    exact = Fraction(change_max) * weight * (1 << bits)
    return min(math.floor(exact) + terms, math.floor(2 * exact))


REMEMBERED_MAX = 2**31
"""What is remembered of one client stays below it, so that an int32 holds it on the device. The sum
of 2^32 clients then fits 64 bits."""


def remembered_bits(change_max: float) -> int:
    """Of fraction, in what is remembered of a client: twice the largest change fits.

    For 64, the default of `limits.change_max`, steps are 6e-8. Errors do not add up: what a step
    left over is in the next difference.
    """
    return max(0, min(52, 30 - math.ceil(math.log2(change_max))))


def on_grid(values: Array, bits: int) -> Total:
    """Each number as the nearest multiple of 2^-bits, int64: the same on every machine."""
    return np.rint(np.ldexp(values.astype(np.float64), bits)).astype(np.int64)


class ExactSum:
    """One running sum for any number of clients: the same bits in whatever order they come."""

    def __init__(self, size: int, bits: int) -> None:
        self._total: Total = np.zeros(size, np.int64)
        self._part: tuple[NDArray[np.int64], Total] | None = None
        """What has been added at some places alone, not yet in the total."""
        self.weight = 0
        self._bits = bits
        self._scaled = np.empty(min(size, _BLOCK), np.float64)
        self._rounded = np.empty(min(size, _BLOCK), np.int64)

    @property
    def total(self) -> Total:
        """In units of 2^-bits, shape (size,)."""
        self._settle()
        return self._total

    def add(self, values: Array, weight: int, share: float = 1.0) -> None:
        """Add `weight * share * values`; `values` has shape (size,), within the agreed bounds.

        It weighs `weight` in the mean: a share below 1 moves that less, and makes nothing else
        count for more.
        """
        self._add(self._total, values, weight, share)

    def add_at(self, places: NDArray[np.int64], values: Array, weight: int) -> None:
        """The same where `values` are at these places, of which no two are the same, and 0
        elsewhere. The places of clients that have one array of them in common are looked up once.
        """
        if self._part is not None and self._part[0] is not places:
            self._settle()
        if self._part is None:
            self._part = places, np.zeros(places.size, np.int64)
        self._add(self._part[1], values, weight)

    def add_total(self, total: Total, weight: int) -> None:
        """Add another sum of as many bits of fraction: its total, shape (size,), and its weight."""
        self._total += total
        self.weight += weight

    def _settle(self) -> None:
        if self._part is not None:
            places, part = self._part
            self._total[places] += part
            self._part = None

    def _add(self, total: Total, values: Array, weight: int, share: float = 1.0) -> None:
        self._add_times(total, values, math.ldexp(weight * share, self._bits), np.rint)
        self.weight += weight

    def _add_times(self, total: Total, values: Array, factor: float, rounded_by: np.ufunc) -> None:
        for start in range(0, values.size, _BLOCK):
            block = values[start : start + _BLOCK]
            scaled, rounded = self._scaled[: block.size], self._rounded[: block.size]
            # dtype: the product of a 24-bit float and a weight below 2^29 is exact in a double.
            np.multiply(block, factor, out=scaled, dtype=np.float64)
            rounded_by(scaled, out=scaled)
            np.copyto(rounded, scaled, casting="unsafe")
            total[start : start + _BLOCK] += rounded

    def mean(self) -> NDArray[np.float64]:
        """The weighted mean, shape (size,). At least one term must have been added."""
        mean = self.total.astype(np.float64)
        mean *= math.ldexp(1.0 / self.weight, -self._bits)
        return mean


def squared_norm(values: Array) -> float:
    """The sum of squares of a vector: the same bits wherever in memory it lies."""
    total = 0.0
    for start in range(0, values.size, _BLOCK):
        # numpy adds up pairwise by place, which a BLAS, whose kernels look at addresses, need not.
        total += float(np.square(values[start : start + _BLOCK], dtype=np.float64).sum())
    return total

"""Whole numbers whose norm is bounded exactly, whatever floating point did before.

To the nearest, or at random, a vector may become longer by being rounded. With more than 8 bits for
a value it is rounded towards 0, by which no vector grows. With fewer that would leave nothing of
small numbers: those are rounded at random, again and again until the norm is within a bound that a
share of 1 - beta at least is within. That bound is the sensitivity, and not the clip norm c:

    min(c^2 + d/4 + sqrt(2 log(1/beta)) (c + sqrt(d)/2),  (c + sqrt(d))^2)     of d numbers

Source: Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian Mechanism for Federated
Learning with Secure Aggregation", ICML 2021, section 4.1 (conditional randomised rounding).
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedmqtt.codec_chance import Chance

Doubles = NDArray[np.float64]
Whole = NDArray[np.int64]

BETA = 1e-3
"""So seldom, at most, is an attempt to round at random beyond the bound."""
_ATTEMPTS = 16
"""All of them fail with a probability of 1e-48: then it is rounded towards 0."""
_SAFELY = 1 - 2.0**-40
_CHUNK = 1 << 16
"""Squares of so many numbers below 2^23 add up to less than 2^63."""


def norm_steps(norm: float, numbers: int, *, at_random: bool) -> int:
    """The bound on what a vector of this norm, in steps, and of so many numbers becomes."""
    if not at_random:
        return math.floor(norm)
    likely = norm**2 + numbers / 4
    likely += math.sqrt(-2 * math.log(BETA)) * (norm + math.sqrt(numbers) / 2)
    return math.ceil(min(math.sqrt(likely), norm + math.sqrt(numbers)))


def whole(numbers: Doubles, bound: int, own: Chance | None) -> Whole:
    """Of numbers in steps, below 2^23: whole ones with a norm of at most `bound`; shape (n,).

    `own`: to round at random. Who is longer than that before it is rounded is made shorter.
    """
    if own is not None:
        for attempt in range(_ATTEMPTS):
            purpose = f"rounding {attempt}" if attempt else "rounding"
            drawn = np.floor(numbers + own.uniform(purpose, numbers.size)).astype(np.int64)
            if squared_norm(drawn) <= bound**2:
                return drawn
    return _towards_zero(numbers, bound)


def squared_norm(numbers: Whole) -> int:
    """Exactly; of numbers below 2^23."""
    chunks = (numbers[at : at + _CHUNK] for at in range(0, numbers.size, _CHUNK))
    return sum(int(np.dot(chunk, chunk)) for chunk in chunks)


def _towards_zero(numbers: Doubles, bound: int) -> Whole:
    norm = math.sqrt(float(np.square(numbers).sum()))
    scale = min(1.0, bound * _SAFELY / norm) if norm else 1.0
    while True:
        found = np.trunc(numbers * scale).astype(np.int64)
        if squared_norm(found) <= bound**2:
            return found
        # Should a sum of floats have been off by more than anybody has seen.
        scale *= _SAFELY

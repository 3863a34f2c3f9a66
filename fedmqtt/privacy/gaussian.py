"""What Gaussian noise guarantees, exactly: epsilon at a delta, and back.

A device adds to each sum a vector of norm at most C, to k sums at most, and each sum gets noise of
standard deviation sigma * C. All of them together tell the device's vectors from zeros no better
than one number tells N(0, 1) from N(mu, 1), mu = sqrt(k) / sigma, also where each sum was asked for
in the light of those before. That is

    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)

Source: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018,
theorem 8; that many sums are one with sqrt(k) times the sensitivity: Dong, Roth and Su, "Gaussian
Differential Privacy", 2022, corollary 3.3. No amplification by sampling is in it.

`sensitivity` is squared, in units of C: k, or what `tree.py` tells.
"""

import math
from collections.abc import Callable

_SQRT_HALF = math.sqrt(0.5)
_LARGE = 3.0
_TERMS = 100
"""Of the continued fraction: at 3 and above all digits of a double are right."""
_STEPS = 2000
"""More than it takes from any two doubles to neighbours."""


def delta(sigma: float, epsilon: float, sensitivity: float = 1.0) -> float:
    """The smallest delta at which it is (epsilon, delta)-private; `epsilon` at least 0."""
    if sensitivity == 0:
        return 0.0
    if sigma == 0:
        return 1.0
    mu = math.sqrt(sensitivity) / sigma
    if mu == 0:
        return 0.0
    low, high = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    if low < 0:
        # e^epsilon Phi(-high) as one product: its factors may not be finite.
        return _upper_tail(low) - math.exp(-low * low / 2) * _mills(high) / math.sqrt(2 * math.pi)
    # phi(low) = e^epsilon phi(high): what would be the difference of two nearly equal tails.
    return math.exp(-low * low / 2) * (_mills(low) - _mills(high)) / math.sqrt(2 * math.pi)


def epsilon(sigma: float, sensitivity: float, delta_: float) -> float:
    """The smallest epsilon at this delta, rounded up; infinite without noise."""
    _check_delta(delta_)
    if sensitivity == 0 or delta(sigma, 0.0, sensitivity) <= delta_:
        return 0.0
    if sigma == 0:
        return math.inf
    return _first(lambda one: delta(sigma, one, sensitivity) <= delta_)


def sigma(epsilon_: float, sensitivity: float, delta_: float) -> float:
    """The smallest noise multiplier that keeps within epsilon at this delta, rounded up."""
    _check_delta(delta_)
    if epsilon_ < 0:
        raise ValueError(f"epsilon is {epsilon_}, not 0 or more")
    if sensitivity == 0:
        return 0.0
    return _first(lambda one: delta(one, epsilon_, sensitivity) <= delta_)


def _first(holds: Callable[[float], bool]) -> float:
    """The smallest positive number from which on it holds."""
    low, high = 0.0, 1.0
    while not holds(high):
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = low + (high - low) / 2
        if middle in (low, high):
            break
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _upper_tail(x: float) -> float:
    """P(N(0, 1) > x)."""
    return math.erfc(x * _SQRT_HALF) / 2


def _mills(x: float) -> float:
    """(1 - Phi(x)) / phi(x), for x that is not far below 0."""
    if x < _LARGE:
        return _upper_tail(x) * math.exp(x * x / 2) * math.sqrt(2 * math.pi)
    # 1/(x + 1/(x + 2/(x + 3/(x + ...)))), Laplace: the tail itself would underflow.
    found = x
    for term in range(_TERMS, 0, -1):
        found = x + term / found
    return 1 / found


def _check_delta(delta_: float) -> None:
    if not 0 < delta_ < 1:
        raise ValueError(f"delta is {delta_}, not between 0 and 1")

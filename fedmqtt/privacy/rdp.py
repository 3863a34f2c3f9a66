"""Renyi accounting of Gaussian noise on sums over a random sample of the devices.

For a federation whose cohorts really are random samples of a known population: each device is in a
round with probability q, whatever else holds. Where devices decide when they connect nobody knows
that, and `gaussian.py` is what counts. Upper bounds, always; where q = 1 `gaussian.py` is exact.

    log A(a) / (a - 1)          the Renyi divergence of order a, of one round
    A(a) = E[((1 - q) + q exp((2x - 1) / (2 sigma^2)))^a], x ~ N(0, sigma^2)

Source: Mironov, Talwar and Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism",
2019, section 3.3, for whole and for other orders; to epsilon by Canonne, Kamath and Steinke, "The
Discrete Gaussian for Differential Privacy", 2020, proposition 12. Neighbours differ by one device
that is there or is not.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ORDERS = (
    *(1 + step / 20 for step in range(1, 100)),
    *(6 + step / 4 for step in range(24)),
    *map(float, range(12, 64)),
    *(float(round(64 * 2 ** (step / 4))) for step in range(25)),
)
"""Between which the best one is looked for."""

_NEGLIGIBLE = -25.0
"""Logarithm: terms smaller than this share of the sum are left out, and made up for below."""
_TERMS_MAX = 3000
"""Where that is not enough, the order is left out: others are as good."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """So many rounds alike."""

    sigma: float
    """Standard deviation of the noise, in clip norms."""
    share: float
    """Of the devices in a round: q."""
    count: int


def epsilon(rounds: Iterable[Rounds], delta: float, orders: Sequence[float] = ORDERS) -> float:
    """At this delta, of all these rounds together."""
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}, not between 0 and 1")
    composed = [one for one in rounds if one.count]
    return min(
        _to_epsilon(order, sum(one.count * divergence(one, order) for one in composed), delta)
        for order in orders
    )


def divergence(one: Rounds, order: float) -> float:
    """Of one of these rounds; `order` above 1."""
    if one.share == 0:
        return 0.0
    if one.sigma == 0:
        return math.inf
    if one.share == 1:
        return order / (2 * one.sigma**2)
    whole = float(order).is_integer()
    log_moment = _log_whole(one, int(order)) if whole else _log_between(one, order)
    return max(0.0, log_moment) / (order - 1)


def _to_epsilon(order: float, divergence_: float, delta: float) -> float:
    found = divergence_ + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
    return max(0.0, found)


def _log_whole(one: Rounds, order: int) -> float:
    """log A of a whole order: the binomial sum."""
    logs = [
        _log_choose(order, k)
        + k * math.log(one.share)
        + (order - k) * math.log1p(-one.share)
        + (k * k - k) / (2 * one.sigma**2)
        for k in range(order + 1)
    ]
    return _log_sum([(log, 1) for log in logs])


def _log_between(one: Rounds, order: float) -> float:
    """log A of any other: a binomial series on either side of where both densities are equal."""
    sigma, share = one.sigma, one.share
    middle = sigma**2 * math.log(1 / share - 1) + 0.5
    terms: list[tuple[float, int]] = []
    log_choose, sign = 0.0, 1
    largest = -math.inf
    for i in range(_TERMS_MAX):
        j = order - i
        below = (
            i * math.log(share)
            + j * math.log1p(-share)
            + (i * i - i) / (2 * sigma**2)
            + _log_upper_tail((i - middle) / sigma)
        )
        above = (
            j * math.log(share)
            + i * math.log1p(-share)
            + (j * j - j) / (2 * sigma**2)
            + _log_upper_tail((middle - j) / sigma)
        )
        terms += [(log_choose + below, sign), (log_choose + above, sign)]
        newest = log_choose + max(below, above)
        largest = max(largest, newest)
        if i > order and newest < largest + _NEGLIGIBLE:
            # Signs alternate from here on, and terms shrink: what is left out is less than this.
            terms.append((newest, 1))
            return _log_sum(terms)
        log_choose += math.log(abs(order - i)) - math.log(i + 1)
        sign = sign if order > i else -sign
    return math.inf


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_sum(terms: Sequence[tuple[float, int]]) -> float:
    """log of the sum of sign * e^log."""
    largest = max(log for log, _ in terms)
    return largest + math.log(math.fsum(sign * math.exp(log - largest) for log, sign in terms))


def _log_upper_tail(x: float) -> float:
    """log P(N(0, 1) > x)."""
    if x < 5:
        return math.log(math.erfc(x / math.sqrt(2)) / 2)
    found = x
    for term in range(40, 0, -1):
        found = x + term / found
    return -x * x / 2 - math.log(found * math.sqrt(2 * math.pi))

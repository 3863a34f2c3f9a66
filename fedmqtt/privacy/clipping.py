"""How much one update may count: its vector is made shorter than a clip norm C, or left as it is.

    x ──▶ x * min(1, C / |x|) ──▶ whole numbers of norm at most `units`, which stands for C

Adaptive: C follows the `quantile` of the norms that come. Each device tells by one number, +1 or
-1, whether it was shorter than C; the share of those that were, with noise, moves C.

    C_next = C * exp(-rate * (share - quantile))

Source: Andrew, Thakkar, McMahan and Ramaswamy, "Differentially Private Learning with Adaptive
Clipping", NeurIPS 2021, algorithm 1 and theorem 1, there with an indicator of 0 or 1 less 1/2.
"""

import math

RATE = 0.2
"""Of the geometric update, as in the paper."""

INDICATOR_SHARE = 0.05
"""Of the privacy that a round costs, what the indicator takes: the vectors' noise grows by 2.6%."""

_SAFELY = 1 - 2.0**-40
"""Above all that rounding may do to a norm of 2^32 numbers in doubles."""


def factor(norm: float, clip: float, units: int) -> float:
    """By what to multiply a vector of this norm. Rounded towards 0 after that, whole numbers of
    norm at most `units` come out."""
    return units * _SAFELY / max(norm, clip)


def split(sigma: float, share: float = INDICATOR_SHARE) -> tuple[float, float]:
    """Noise multipliers of the vectors and of the indicator that together are as good as sigma:
    1 / sigma^2 = 1 / vectors^2 + 1 / indicator^2, each for what a device can change of it."""
    return sigma / math.sqrt(1 - share), sigma / math.sqrt(share)


def following(
    clip: float, share: float, quantile: float, largest: float, smallest: float = 0.0
) -> float:
    """The next C, `smallest` to `largest`. `share` has noise in it, and may be any number."""
    exponent = -RATE * (min(1.0, max(0.0, share)) - quantile)
    # Two machines' powers may differ in their last bit: that is rounded away.
    moved = round(math.exp(exponent) * 2**30) / 2**30
    return min(largest, max(smallest, clip * moved))

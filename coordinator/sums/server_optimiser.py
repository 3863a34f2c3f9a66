"""Adaptive optimisers at the server: a step of its own for each parameter.

    m_next = b1 m + (1 - b1) d        d: the weighted mean of the changes; -d is the pseudo-gradient
    v_next = second_moment(v, d)      the one line in which they differ
    w_next = w + rate * m_next / (sqrt(v_next) + tau)

Source: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2, with v = tau^2
before the first round. One exact sum; m and v are remembered, two models' size.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Memory, Round
from coordinator.sums.weighted_mean import Values, WeightedMean
from fedmqtt.weights import Array

Momentum = Annotated[
    float, Meta(ge=0, lt=1, description="How much of the last rounds' direction is kept (beta 1).")
]
SquaresKept = Annotated[
    float, Meta(ge=0, lt=1, description="How much of the last rounds' squares is kept (beta 2).")
]


class AdaptiveSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rate: Annotated[
        float,
        Meta(gt=0, le=10, description="Server step: about what a parameter moves in a round."),
    ] = 0.01
    tau: Annotated[
        float,
        Meta(gt=0, le=1, description="How adaptive: changes far below it are hardly scaled up."),
    ] = 1e-3
    momentum: Momentum = 0.9


def adaptive(
    settings: AdaptiveSettings, round_: Round, second_moment: Callable[[Values, Values], Values]
) -> WeightedMean:
    """`second_moment`: (v, d) -> v_next, each of shape (size,)."""
    memory = round_.memory

    def step(base: Array, mean: Values) -> Array:
        momentum, tau = settings.momentum, settings.tau
        m = (1 - momentum) * mean + momentum * _before(memory, "m", 0.0, base.size)
        v = second_moment(_before(memory, "v", tau**2, base.size), mean)
        # Rounded to what is remembered before it is used: a restart changes nothing.
        memory["m"], memory["v"] = m32, v32 = m.astype(np.float32), v.astype(np.float32)
        scaled = m32.astype(np.float64) / (np.sqrt(v32.astype(np.float64)) + tau)
        return (base + settings.rate * scaled).astype(np.float32)

    return WeightedMean(round_.exact_sum(), step)


def _before(memory: Memory, name: str, start: float, size: int) -> Values:
    if (before := memory.get(name)) is None:
        return np.full(size, start)
    return before.astype(np.float64)

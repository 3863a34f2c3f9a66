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
from numpy.typing import NDArray

from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt.weights import Array

Values = NDArray[np.float64]

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


class AdaptiveOptimiser:
    def __init__(
        self,
        settings: AdaptiveSettings,
        round_: Round,
        second_moment: Callable[[Values, Values], Values],
    ) -> None:
        """`second_moment`: (v, d) -> v_next, each of shape (size,)."""
        self._settings = settings
        self._memory = round_.memory
        self._second_moment = second_moment
        self._running = round_.exact_sum()

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count)

    def fold_part(
        self, places: NDArray[np.int64], values: Array, sample_count: int, named: Named
    ) -> None:
        self._running.add_at(places, values, sample_count)

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        momentum, tau = self._settings.momentum, self._settings.tau
        mean = self._running.mean()
        m = (1 - momentum) * mean + momentum * self._before("m", 0.0, base.size)
        v = self._second_moment(self._before("v", tau**2, base.size), mean)
        # Rounded to what is remembered before it is used: a restart changes nothing.
        self._memory["m"], self._memory["v"] = m32, v32 = m.astype(np.float32), v.astype(np.float32)
        step = m32.astype(np.float64) / (np.sqrt(v32.astype(np.float64)) + tau)
        return (base + self._settings.rate * step).astype(np.float32)

    def _before(self, name: str, start: float, size: int) -> Values:
        if (before := self._memory.get(name)) is None:
            return np.full(size, start)
        return before.astype(np.float64)

"""All strategies that go by the mean of the changes alone, weighted by samples."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from coordinator.rounds import Named
from fedmqtt.fixed_point import ExactSum
from fedmqtt.weights import Array

Values = NDArray[np.float64]

Rate = Annotated[
    float, Meta(gt=0, le=10, description="How far to move along the mean; 1 is averaging.")
]

Step = Callable[[Array, Values], Array]
"""(w, d) -> w_next, from the round's model and the mean change, each of shape (size,)."""


class WeightedMean:
    """Keeps one running sum, so memory does not grow with the cohort."""

    def __init__(self, running: ExactSum, step: Step) -> None:
        self._running = running
        self._step = step

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count)

    def fold_part(
        self, places: NDArray[np.int64], values: Array, sample_count: int, named: Named
    ) -> None:
        self._running.add_at(places, values, sample_count)

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        return self._step(base, self._running.mean())


def along(rate: float) -> Step:
    """w_next = w + rate * d"""
    return lambda base, mean: (base + mean * rate).astype(np.float32)

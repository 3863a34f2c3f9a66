"""The step of all strategies that average: along the mean of the changes, weighted by samples."""

import numpy as np
from numpy.typing import NDArray

from coordinator.rounds import Named
from fedmqtt.fixed_point import ExactSum
from fedmqtt.weights import Array


class WeightedMean:
    """Keeps one running sum, so memory does not grow with the cohort."""

    def __init__(self, running: ExactSum, rate: float) -> None:
        """`rate`: how far to move along the mean."""
        self._running = running
        self._rate = rate

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count)

    def fold_part(
        self, places: NDArray[np.int64], values: Array, sample_count: int, named: Named
    ) -> None:
        self._running.add_at(places, values, sample_count)

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        return (base + self._running.mean() * self._rate).astype(np.float32)

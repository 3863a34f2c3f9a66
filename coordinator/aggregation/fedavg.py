"""Federated averaging: the mean of the clients' changes, weighted by how much data each trained on.

    w_next = w + rate * sum_k (n_k / n) (w_k - w)

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, algorithm 1; `rate` is 1 there, and the server step of Reddi et al., "Adaptive
Federated Optimization", ICLR 2021, otherwise.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt.fixed_point import ExactSum
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[
        float, Meta(gt=0, le=10, description="How far to move along the mean; 1 is averaging.")
    ] = 1.0


class FedAvg:
    """Keeps one running sum, so memory does not grow with the cohort."""

    def __init__(self, settings: Settings, running: ExactSum) -> None:
        self._rate = settings.rate
        self._running = running

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


def build(settings: Settings, round_: Round) -> FedAvg:
    return FedAvg(settings, round_.exact_sum())

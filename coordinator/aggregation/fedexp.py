"""FedExP: averaging that goes further where clients' changes are far apart, as they overshoot then.

    rate = max(1, sum_k p_k |d_k|^2 / (2 (|d|^2 + epsilon)))        w_next = w + rate * d

d is the mean of the changes d_k, weighted by p_k = n_k / n.

Source: Jhunjhunwala, Wang and Joshi, "FedExP: Speeding Up Federated Averaging via Extrapolation",
ICLR 2023, algorithm 1; clients have the same weight there. `rate_max` is ours: changes that cancel
each other, by chance or on purpose, would throw the model out of the world. Left out: as single
models swing, the paper evaluates the average of the last two. Here what is evaluated is what
clients train from next, and no strategy knows which round is the last.
"""

from fractions import Fraction
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt.fixed_point import squared_norm
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    epsilon: Annotated[
        float,
        Meta(gt=0, le=1, description="Holds the rate back where the mean change is next to none."),
    ] = 1e-3
    rate_max: Annotated[float, Meta(ge=1, le=1e6, description="It never moves further.")] = 100.0


class FedExP:
    """Two exact sums: of the changes, and of their squared norms."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._settings = settings
        self._running = round_.exact_sum()
        self._squares = Fraction(0)

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count)
        self._squares += Fraction(squared_norm(change)) * sample_count

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        mean = self._running.mean()
        spread = float(self._squares / self._running.weight)
        rate = spread / (2 * (float(np.square(mean).sum()) + self._settings.epsilon))
        return (base + min(max(1.0, rate), self._settings.rate_max) * mean).astype(np.float32)


def build(settings: Settings, round_: Round) -> FedExP:
    return FedExP(settings, round_)

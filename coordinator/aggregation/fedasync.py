"""FedAsync: the model is mixed with each client's model, the less the older the one it began with.

    w_next = (1 - a_k) w + a_k w_k        a_k = alpha s(t - t_k)        t_k: the round k began with

Source: Xie, Koyejo and Gupta, "Asynchronous Federated Optimization", OPT 2020, algorithm 1; s is in
`coordinator/sums/staleness.py`. Meant for `rounds.cohort` = 1. Of several answers it takes the mean
of what each alone would make, weighted by samples, so that their order does not matter:

    w_next = w + sum_k (n_k / n) a_k (w_k - w)        w_k = w_tk + what k changed

Reads the models w_tk from the disk, one at a time: up to late.rounds_max of them are kept there.
"""

from collections import Counter
from typing import Annotated

import numpy as np
from msgspec import Meta

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums.staleness import StalenessSettings, weight
from fedmqtt.topics import RoundId
from fedmqtt.weights import Array

WEIGHS_STALENESS = True
NEEDS_BASES = True


class Settings(StalenessSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alpha: Annotated[
        float,
        Meta(gt=0, le=1, description="How much of a fresh answer's model goes into the next one."),
    ] = 0.6


class FedAsync:
    """Keeps one running sum of the changes; what they were made to is added up at the end."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._settings = settings
        self._round = round_
        self._running = round_.exact_sum()
        self._samples: Counter[RoundId] = Counter()
        """By the round that was answered, of those that have closed."""

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        staleness = self._round.staleness(named)
        self._running.add(change, sample_count, weight(self._settings, staleness))
        if staleness:
            self._samples[named.round] += sample_count

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        moved = self._running.mean()
        # In the order of rounds, whatever the order of answers: float sums depend on it.
        for number, samples in sorted(self._samples.items()):
            share = weight(self._settings, self._round.number - number)
            began = self._round.base_of(number).astype(np.float64)
            moved += (samples / self._running.weight * share) * (began - base)
        return (base + self._settings.alpha * moved).astype(np.float32)


def build(settings: Settings, round_: Round) -> FedAsync:
    return FedAsync(settings, round_)

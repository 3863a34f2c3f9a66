"""FedBuff: the mean of a buffer of changes, each counting for less the older its model is.

    w_next = w + rate * sum_k (n_k / n) s(t - t_k) (w_k - w_tk)        t_k: the round k began with

Source: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022,
algorithm 1; the buffer's size K is `rounds.cohort`, `rate` their server learning rate, and s, as
there, (1 + u)^(-1/2) where nothing else is set. As there, the sum is divided by what the changes
would weigh if they were fresh: a buffer of stale ones moves the model less. Theirs have the same
weight n_k; here they count by samples, as in fedavg. What came while a model was made is taken up
with the next one, so a buffer may hold a few more than K.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums.staleness import StalenessSettings, weight
from coordinator.sums.weighted_mean import Rate
from fedmqtt.weights import Array

WEIGHS_STALENESS = True
MEAN_ALONE = True


class Settings(StalenessSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rate: Rate = 1.0


class FedBuff:
    """Keeps one running sum, so memory does not grow with the buffer."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._settings = settings
        self._round = round_
        self._running = round_.exact_sum()

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count, self.share(named))

    def share(self, named: Named) -> float:
        return weight(self._settings, self._round.staleness(named))

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        return (base + self._running.mean() * self._settings.rate).astype(np.float32)


def build(settings: Settings, round_: Round) -> FedBuff:
    return FedBuff(settings, round_)

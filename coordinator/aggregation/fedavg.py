"""Federated averaging: the mean of the clients' changes, weighted by how much data each trained on.

    w_next = w + rate * sum_k (n_k / n) (w_k - w)

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, algorithm 1; `rate` is 1 there, and the server step of Reddi et al., "Adaptive
Federated Optimization", ICLR 2021, otherwise.
"""

from msgspec import Struct

from coordinator.aggregation import Round
from coordinator.sums.weighted_mean import Rate, WeightedMean, along

MEAN_ALONE = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0


def build(settings: Settings, round_: Round) -> WeightedMean:
    return WeightedMean(round_.exact_sum(), along(settings.rate))

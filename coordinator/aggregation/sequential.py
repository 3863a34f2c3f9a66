"""Sequential (cyclic): the model goes from client to client, each trains what the last one left.

    w_next = w_k        trained from w by the one client k whose turn it is

A round is one visit, so `rounds.count` counts visits. Nothing is averaged: the model is most like
the data of whoever was visited last, the more so the longer each trains.

Source: Chang et al., "Distributed deep learning networks among institutions for medical imaging",
Journal of the American Medical Informatics Association 2018 (cyclical weight transfer).
"""

from msgspec import Struct

from coordinator.aggregation import Round
from coordinator.sums.weighted_mean import WeightedMean, along

ONE_AT_A_TIME = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


def build(settings: Settings, round_: Round) -> WeightedMean:
    # A visit brings one answer. Of several it would be the mean, whatever their order.
    return WeightedMean(round_.exact_sum(), along(rate=1.0))

"""Sequential (cyclic): the model goes from client to client, each trains what the last one left.

    w_next = w_k        trained from w by the one client k whose turn it is

A round is one visit, so `rounds.count` counts visits. Nothing is averaged: the model is most like
the data of whoever was visited last, the more so the longer each trains.

Source: Chang et al., "Distributed deep learning networks among institutions for medical imaging",
Journal of the American Medical Informatics Association 2018 (cyclical weight transfer).
"""

import numpy as np
from msgspec import Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt.fixed_point import ExactSum
from fedmqtt.weights import Array

ONE_AT_A_TIME = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Sequential:
    """A visit brings one answer. Of several it would be the mean, whatever their order."""

    def __init__(self, running: ExactSum) -> None:
        self._running = running

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count)

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        return (base + self._running.mean()).astype(np.float32)


def build(settings: Settings, round_: Round) -> Sequential:
    return Sequential(round_.exact_sum())

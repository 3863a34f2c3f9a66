"""FedAU: averaging in which each client weighs as it is seldom there, as it estimates by itself.

    w_next = w + rate * sum_k a_k d_k / sum_k a_k        a_k: rounds between k's answers, on average

a_k estimates 1 / p_k, with p_k the share of the rounds that k takes part in. It is found on the
device (`edge_client/participation.py`), from its own answers that were counted, so the coordinator
need know nothing of anybody. Its cutoff `interval_max` bounds what a client can claim. Clients have
the same weight but for that, as in the paper; it divides by the number of all clients, which is the
sum of the a_k on average and not known here.

Source: Wang and Ji, "A Lightweight Method for Tackling Unknown Participation Statistics in
Federated Averaging", ICLR 2024, algorithms 1 and 2.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums.weighted_mean import Rate
from fedmqtt.messages import Method, Update
from fedmqtt.weights import Array

_STEPS = 256
"""Weights are whole multiples of 1 / so many."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0
    interval_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Cutoff K: a longer absence counts as several of so many rounds. Larger\n"
            "is less biased, and lets single clients weigh more.",
        ),
    ] = 50


WEIGHT_KEYS = ("aggregation_settings.interval_max",)


def weight_max(settings: Settings, samples_max: int) -> int:
    return settings.interval_max * _STEPS


def method(settings: Settings) -> Method:
    return Method(interval_max=settings.interval_max)


class FedAU:
    """Keeps one running sum."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._rate = settings.rate
        self._running = round_.exact_sum()
        self._intervals: dict[Named, float] = {}

    def hear(self, named: Named, update: Update) -> None:
        self._intervals[named] = update.interval

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, round(self._intervals.pop(named, 1.0) * _STEPS))

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        return (base + self._running.mean() * self._rate).astype(np.float32)


def build(settings: Settings, round_: Round) -> FedAU:
    return FedAU(settings, round_)

"""Inverse participation: averaging in which who answers seldom counts for more, by our own count.

    w_next = w + rate * sum_k n_k r_k d_k / sum_k n_k r_k        r_k = rounds / answers of client k

Rounds are counted from a client's first answer, and r_k is at most `ratio_max`. It is what 1 / p_k
would be with known probabilities p_k; the coordinator remembers three numbers of each client, and
clients need do nothing.

Source: inverse probability weighting (Horvitz and Thompson, JASA 1952), as the baseline with
average participation in Wang and Ji, "A Lightweight Method for Tackling Unknown Participation
Statistics in Federated Averaging", ICLR 2024, section 6.
"""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums.weighted_mean import Rate
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array

_STEPS = 256
"""Ratios are whole multiples of 1 / so many."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0
    ratio_max: Annotated[
        float, Meta(ge=1, le=1000, description="No client counts for more times its samples.")
    ] = 50.0


WEIGHT_KEYS = ("limits.samples_max", "aggregation_settings.ratio_max")


def weight_max(settings: Settings, samples_max: int) -> int:
    return samples_max * math.ceil(settings.ratio_max * _STEPS)


class InverseParticipation:
    """One running sum; what was counted of each client until the round before."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._settings = settings
        self._memory = round_.memory
        self._running = round_.exact_sum()
        self._number, self._turnout = _read(round_)
        self._came: list[ClientId] = []

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, sample_count * round(self._ratio(named.client) * _STEPS))
        self._came.append(named.client)

    def finish(self, base: Array) -> Array:
        if not self._came:
            return base
        for client in self._came:
            first, answers = self._turnout.get(client, (self._number, 0))
            self._turnout[client] = first, answers + 1
        names = sorted(self._turnout)
        rows = [self._turnout[name] for name in names]
        self._memory["clients"] = np.frombuffer("\n".join(names).encode(), np.uint8)
        self._memory["turnout"] = np.array(rows, np.int64)
        self._memory["rounds"] = np.array([self._number], np.int64)
        return (base + self._running.mean() * self._settings.rate).astype(np.float32)

    def _ratio(self, client: ClientId) -> float:
        # As of before this round and with this answer: the same in whatever order they come.
        first, answers = self._turnout.get(client, (self._number, 0))
        return min((self._number - first + 1) / (answers + 1), self._settings.ratio_max)


def _read(round_: Round) -> tuple[int, dict[ClientId, tuple[int, int]]]:
    """This round's number among those that made a model, and of each client that of its first
    answer and how many it has given."""
    if "turnout" not in round_.memory:
        return 1, {}
    names = round_.memory["clients"].tobytes().decode().split("\n")
    rows = [(int(first), int(answers)) for first, answers in round_.memory["turnout"]]
    return int(round_.memory["rounds"][0]) + 1, dict(zip(map(ClientId, names), rows, strict=True))


def build(settings: Settings, round_: Round) -> InverseParticipation:
    return InverseParticipation(settings, round_)

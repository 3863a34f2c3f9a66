"""MIFA: clients that are seldom online count as much as others, by what they last gave.

    w_next = w + rate * G / N        G: the sum of each client's newest change, N: of how many

Each client remembers what was counted of it and sends by how much its new change differs from that;
the coordinator adds it to G, the one thing it keeps for all clients together. A codec's error is
part of the next difference, so it does not last.

G is exact: both sides add up whole multiples of 2^-f, below 2^31 each, so that 2^32 clients fit,
and what a client remembers is to the last bit what G holds of it. Clients have the same weight, as
in the paper; there, the first round waits for all, and here N grows as they come.

Source: Gu et al., "Fast Federated Learning in the Presence of Arbitrary Device Unavailability",
NeurIPS 2021, algorithm 1 (section 4: its efficient implementation by differences).
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator import counted
from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt.fixed_point import Total, on_grid
from fedmqtt.messages import Method
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[
        float, Meta(gt=0, le=10, description="How far to move along the mean; 1 is averaging.")
    ] = 1.0


def method(settings: Settings) -> Method:
    return Method(difference=True)


class Mifa:
    """One running sum, and of each client a number: the round that was counted last."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._rate = settings.rate
        self._memory = round_.memory
        self._bits = round_.remembered_bits
        self._added: Total = np.zeros(round_.size, np.int64)
        self._came: list[Named] = []

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._added += on_grid(change, self._bits)
        self._came.append(named)

    def absorb(self) -> None:
        if not self._came:
            return
        rounds = counted.read(self._memory)
        for named in self._came:
            rounds[named.client] = max(named.round, rounds.get(named.client, named.round))
        before = self._memory.get("sum", np.zeros(1, np.int64))
        self._memory.update({"sum": before + self._added, **counted.written(rounds)})

    def finish(self, base: Array) -> Array:
        if not self._came:
            return base
        self.absorb()
        clients = len(self._memory["rounds"])
        mean = np.ldexp(self._memory["sum"].astype(np.float64), -self._bits) / clients
        return (base + self._rate * mean).astype(np.float32)


def build(settings: Settings, round_: Round) -> Mifa:
    return Mifa(settings, round_)

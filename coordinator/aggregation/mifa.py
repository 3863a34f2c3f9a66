"""MIFA: clients that are seldom online count as much as others, by what they last gave.

    w_next = w + rate * G / N        G: the sum of each client's newest change, N: of how many

Each client remembers what was counted of it and sends by how much its new change differs from that
(`coordinator/sums/newest_sum.py`). A codec's error is part of the next difference, so it does not
last. Clients have the same weight, as in the paper; there, the first round waits for all, and here
N grows as they come. Who left for good is taken out of G after `expire_rounds`.

Source: Gu et al., "Fast Federated Learning in the Presence of Arbitrary Device Unavailability",
NeurIPS 2021, algorithm 1 (section 4: its efficient implementation by differences).
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums import newest_sum
from coordinator.sums.newest_sum import NewestSum
from coordinator.sums.weighted_mean import Rate
from fedmqtt.messages import Method, Update
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0
    expire_rounds: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="A client that has not answered for so many rounds counts no more; 0:\n"
            "it counts for ever, and nothing of each client is kept on the disk.",
        ),
    ] = 200


def method(settings: Settings) -> Method:
    return Method(difference=True)


def stores(settings: Settings) -> bool:
    return settings.expire_rounds > 0


class Mifa:
    def __init__(self, settings: Settings, round_: Round) -> None:
        self._rate = settings.rate
        self._memory = round_.memory
        self._newest = NewestSum(round_, settings.expire_rounds)

    def judge(self, client: ClientId, update: Update, change: Array) -> str:
        return self._newest.judge(client, update, change)

    def hear(self, named: Named, update: Update) -> None:
        self._newest.hear(named, update)

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._newest.add(change, named)

    def absorb(self) -> None:
        self._newest.absorb()

    def finish(self, base: Array) -> Array:
        if not self._newest.came:
            return base
        self.absorb()
        mean = newest_sum.mean(self._memory)
        assert mean is not None
        return (base + self._rate * mean).astype(np.float32)


def build(settings: Settings, round_: Round) -> Mifa:
    return Mifa(settings, round_)

"""Who is invited to a round. One file per policy.

Each defines

    select(candidates, count, chance) -> tuple of clients

where `candidates` are sorted, `count` is at most their number, and `chance` is a stream of its own
for this federation's seed and round: the same seed gives the same cohorts.
"""

from collections.abc import Sequence
from random import Random
from typing import Protocol

from fedmqtt.topics import ClientId


class Select(Protocol):
    def __call__(
        self, candidates: Sequence[ClientId], count: int, chance: Random, /
    ) -> tuple[ClientId, ...]: ...

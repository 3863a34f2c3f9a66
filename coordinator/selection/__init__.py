"""Who is invited to train in a round. One file per policy.

Each defines its `Settings`, and

    select(candidates, count, chance, known, settings) -> sorted tuple of `count` clients

where `candidates` are sorted, `count` is at most their number, `chance` is a stream of its own for
this federation's seed and round, and `known` is what earlier rounds showed of each client (nothing
of those that are new). The same arguments select the same clients; none of them is changed.

A policy with `GOES_BY_DATA = True` goes by what clients tell of their data, which nobody does under
masks. One with `BLIND_TO_DATA = True` goes by nothing that follows from clients' data, as losses,
sample counts and durations do: differential privacy takes no other. One with `BY_SORTITION = True`
has offers carry a threshold in the place of names.

Losses and sample counts are what clients say of themselves: who claims more is invited more often
by the policies that go by them.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol

from coordinator.known import Known
from fedmqtt.topics import ClientId

Fleet = Mapping[ClientId, Known]


class Select(Protocol):
    def __call__(
        self,
        candidates: Sequence[ClientId],
        count: int,
        chance: Random,
        known: Fleet,
        settings: Any,
        /,
    ) -> tuple[ClientId, ...]: ...

"""Who is invited to train in a round. One file per policy.

Each defines its `Settings`, and

    select(candidates, count, chance, known, settings) -> sorted tuple of `count` clients

where `candidates` are sorted, `count` is at most their number, `chance` is a stream of its own for
this federation's seed and round, and `known` is what earlier rounds showed of each client (nothing
of those that are new). The same arguments select the same clients; none of them is changed.

`GOES_BY` tells what of clients' answers a policy goes by: "data", as losses and sample counts, of
which nobody tells anything under masks; "durations", which everybody sees, and which follow from
data too; "nothing": differential privacy takes no other. Without it, it is taken for "data". One
with `BY_SORTITION = True` has offers carry a threshold in the place of names.

Losses and sample counts are what clients say of themselves: who claims more is invited more often
by the policies that go by them.
"""

from collections.abc import Mapping, Sequence
from random import Random
from types import ModuleType
from typing import Any, Literal, Protocol

from coordinator.known import Known
from fedmqtt.topics import ClientId

Fleet = Mapping[ClientId, Known]


GoesBy = Literal["nothing", "durations", "data"]


def goes_by(policy: ModuleType) -> GoesBy:
    """What of clients' answers it goes by."""
    said: GoesBy = getattr(policy, "GOES_BY", "data")
    return said


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

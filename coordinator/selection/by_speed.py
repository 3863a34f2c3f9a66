"""The fastest by measured duration, and a share of others, so that everybody is measured.

    S_t = the (1 - e) m candidates with the smallest median duration, and e m that are explored

A client's duration is from a round's opening to its answer: fetching, waiting for its turn,
training and sending, whatever is slow about it. Whoever was invited and never answered in time
comes after all that have. Rounds become short; the model learns what fast devices see.

Source: the greedy choice of Nishio and Yonetani, "Client Selection for Federated Learning with
Heterogeneous Resources in Mobile Edge", ICC 2019, algorithm 3, by measured times instead of those
that clients foretell, and with exploration as in Lai et al., "Oort", OSDI 2021, section 4.3.
"""

from collections.abc import Sequence
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from coordinator import exploration
from coordinator.known import UNKNOWN
from coordinator.selection import Fleet
from fedmqtt.topics import ClientId

GOES_BY = "durations"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    explore: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Share of the places that go to others than the fastest: who is new first.",
        ),
    ] = 0.2


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    explored = exploration.places(count, settings.explore, chance)
    # Sorting keeps the order of equals, which is left to chance.
    order = chance.sample(candidates, len(candidates))
    order.sort(key=lambda one: _expected_s(one, known))
    fast, others = order[: count - explored], sorted(order[count - explored :])
    return tuple(sorted([*fast, *exploration.draw(others, explored, chance, known)]))


def _expected_s(client: ClientId, known: Fleet) -> tuple[int, float]:
    one = known.get(client, UNKNOWN)
    if (duration_s := one.duration_s) is not None:
        return 0, duration_s
    # Who is new may be fast; who was asked and did not answer in time is not.
    return (2, 0.0) if one.invited else (1, 0.0)

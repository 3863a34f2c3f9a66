"""Of a few candidates drawn by how much data they have, those on whose data the model does worst.

    A_t = d m candidates drawn without replacement, each in proportion to its samples n_k
    S_t = the m of A_t with the largest loss F_k

Source: Cho et al., "Towards Understanding Biased Client Selection in Federated Learning", AISTATS
2022 ("Power-of-Choice", arXiv 2010.01243, 2020), section 4: the variant rpow-d, where F_k is the
training loss that k reported last, and without bound for those that were never invited.

Two things are ours. Losses that were reported long ago do not fall while the others' do, but one
that was low once could stay lowest for good: a share of the places is explored. And a client that
was invited and told no loss counts with the mean of the others, or one that never answers would be
invited for ever.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from coordinator import exploration
from coordinator.known import UNKNOWN
from coordinator.selection import Fleet
from fedmqtt.topics import ClientId

GOES_BY = "data"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    drawn: Annotated[
        float,
        Meta(
            ge=1,
            le=1000,
            description="Candidates drawn for each place (d/m in the paper). 1 goes by data\n"
            "alone; more prefer a high loss more.",
        ),
    ] = 2.0
    explore: Annotated[
        float,
        Meta(
            ge=0, le=1, description="Share of the places that do not go by loss: who is new first."
        ),
    ] = 0.1


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    explored = exploration.places(count, settings.explore, chance)
    by_loss = count - explored
    drawn = _by_samples(candidates, math.ceil(settings.drawn * by_loss), chance, known)
    losses = _losses(drawn, known)
    # Sorting keeps the order of equals, which is that in which they were drawn.
    worst = sorted(drawn, key=lambda one: -losses[one])[:by_loss]
    taken = frozenset(worst)
    others = [one for one in candidates if one not in taken]
    return tuple(sorted([*worst, *exploration.draw(others, explored, chance, known)]))


def _by_samples(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet
) -> list[ClientId]:
    """So many of them, or all, drawn in proportion to their samples; unknown ones have the mean.

    The `count` largest of log(u_k) / n_k: Efraimidis and Spirakis, "Weighted random sampling with a
    reservoir", Information Processing Letters 2006.
    """
    samples = {one: known.get(one, UNKNOWN).samples for one in candidates}
    told = [n for n in samples.values() if n]
    mean = sum(told) / len(told) if told else 1.0
    # 1 - u is never 0.
    keys = {one: math.log(1.0 - chance.random()) / (n or mean) for one, n in samples.items()}
    return sorted(candidates, key=lambda one: -keys[one])[:count]


def _losses(clients: Sequence[ClientId], known: Fleet) -> dict[ClientId, float]:
    told = {one: loss for one in clients if (loss := known.get(one, UNKNOWN).loss) is not None}
    mean = sum(told.values()) / len(told) if told else 0.0
    return {
        one: told.get(one, mean if known.get(one, UNKNOWN).invited else math.inf) for one in clients
    }

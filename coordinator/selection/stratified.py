"""Each kind of device has its share of the round: by the label its owner gave it.

    proportional   m |C_g| / |C| places for the candidates C_g with label g, rounded up or down
    even           as many places for each label, as far as it has candidates

The devices of one label are drawn at random. Proportional, every client is as likely as any other,
as in uniform selection, but no round happens to be of phones alone. Even, the few are heard as much
as the many. Clients without a label are a kind of their own.

Source: stratified sampling with proportional and with equal allocation (Cochran, "Sampling
Techniques", 3rd edition, 1977, chapter 5), the former drawn systematically (Madow, "On the theory
of systematic sampling, II", Annals of Mathematical Statistics 1949), so that a label that is too
small for a whole place in a round has one now and then.
"""

from collections.abc import Sequence
from random import Random
from typing import Annotated, Literal

from msgspec import Meta, Struct

from coordinator.known import UNKNOWN
from coordinator.selection import Fleet
from fedmqtt.topics import ClientId

GOES_BY = "nothing"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    shares: Annotated[
        Literal["proportional", "even"],
        Meta(description="Of the labels: as many places as they have candidates, or all the same."),
    ] = "proportional"


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    strata = _shuffled(candidates, chance, known)
    if settings.shares == "even":
        return tuple(sorted(_in_turn(strata, count)))
    return tuple(sorted(_systematically(strata, count, chance)))


def _shuffled(candidates: Sequence[ClientId], chance: Random, known: Fleet) -> list[list[ClientId]]:
    """The candidates of each label, in random order; so are the labels."""
    strata: dict[str, list[ClientId]] = {}
    for one in chance.sample(candidates, len(candidates)):
        strata.setdefault(known.get(one, UNKNOWN).label, []).append(one)
    labels = chance.sample(sorted(strata), len(strata))
    return [strata[label] for label in labels]


def _in_turn(strata: Sequence[list[ClientId]], count: int) -> list[ClientId]:
    """One of each label, then another of each, ..., until there are so many."""
    taken: list[ClientId] = []
    depth = 0
    while len(taken) < count:
        taken += [stratum[depth] for stratum in strata if depth < len(stratum)]
        depth += 1
    return taken[:count]


def _systematically(strata: Sequence[list[ClientId]], count: int, chance: Random) -> list[ClientId]:
    """One in each of `count` equal stretches of the line of all, at the same random place.

    In whole numbers: of a start in 0 .. n - 1, place i is that of floor((start + i n) / count).
    """
    line = [one for stratum in strata for one in stratum]
    if not count:
        return []
    start = chance.randrange(len(line))
    return [line[(start + i * len(line)) // count] for i in range(count)]

"""Which keyholder holds which seeds: one for each set of `tolerated` places, held by the others.

    places=3, tolerated=1      seed 0: not of place 0     place 0 holds 1, 2
                               seed 1: not of place 1     place 1 holds 0, 2
                               seed 2: not of place 2     place 2 holds 0, 1

Any `tolerated` places lack the seed of just their set, so that they know nothing of the mask. One
place more is outside of every such set, and all seeds are held.

Ito, Saito, Nishizeki, "Secret sharing scheme realizing general access structure", GLOBECOM 1987.
"""

import functools
import math
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations


def count(places: int, tolerated: int) -> int:
    """Of seeds of one client. Raises ValueError unless 0 <= tolerated < places."""
    if not 0 <= tolerated < places:
        raise ValueError(f"of {places} places not {tolerated} can be tolerated")
    return math.comb(places, tolerated)


@functools.lru_cache(maxsize=64)
def held_by(places: int, tolerated: int) -> tuple[tuple[int, ...], ...]:
    """For each place the numbers of the seeds that it holds, growing. Raises ValueError."""
    count(places, tolerated)
    lacking = list(combinations(range(places), tolerated))
    return tuple(
        tuple(seed for seed, those in enumerate(lacking) if place not in those)
        for place in range(places)
    )


def shared(places: int, tolerated: int, there: Collection[int]) -> tuple[int, ...]:
    """The seeds that several of those that are `there` hold, growing. Raises ValueError."""
    held = held_by(places, tolerated)
    holders = Counter(seed for place in set(there) for seed in held[place])
    return tuple(sorted(seed for seed, count in holders.items() if count > 1))


def assign(places: int, tolerated: int, there: Sequence[int]) -> dict[int, int] | None:
    """For each seed the place that is to send the sum of its masks, of those that are `there`.

    As evenly as can be: the most that one is given is the least possible. None where some seed is
    held by nobody who is there.
    """
    held = held_by(places, tolerated)
    holders = [
        [place for place in sorted(set(there)) if seed in held[place]]
        for seed in range(count(places, tolerated))
    ]
    if not all(holders):
        return None
    assigned = {seed: who[0] for seed, who in enumerate(holders)}
    while moves := _relief(assigned, holders):
        assigned |= moves
    return assigned


def _relief(assigned: dict[int, int], holders: list[list[int]]) -> dict[int, int]:
    """Seeds to hand on, so that a place with the most has one less, and none as many: along the
    shortest way from it to a place with two less. Empty where there is no such way."""
    load = Counter(assigned.values())
    most = max(load.values())
    ways: dict[int, dict[int, int]] = {place: {} for place in load if load[place] == most}
    waiting = deque(ways)
    while waiting:
        place = waiting.popleft()
        for seed, other in _handing_on(place, assigned, holders):
            if other not in ways:
                ways[other] = ways[place] | {seed: other}
                if load[other] <= most - 2:
                    return ways[other]
                waiting.append(other)
    return {}


def _handing_on(
    place: int, assigned: dict[int, int], holders: list[list[int]]
) -> Iterator[tuple[int, int]]:
    """Each seed that is assigned to this place, with each other one that could have it."""
    for seed, who in assigned.items():
        if who == place:
            yield from ((seed, other) for other in holders[seed] if other != place)

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
from collections.abc import Sequence
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


def assign(places: int, tolerated: int, there: Sequence[int]) -> dict[int, int] | None:
    """For each seed the place that is to send the sum of its masks, of those that are `there`.

    Spread evenly: none sends two more than another, where both could. None where some seed is held
    by nobody who is there.
    """
    held = held_by(places, tolerated)
    holders = {
        seed: sorted(place for place in set(there) if seed in held[place])
        for seed in range(count(places, tolerated))
    }
    if not all(holders.values()):
        return None
    load = dict.fromkeys(there, 0)
    assigned: dict[int, int] = {}
    # Those first that few hold.
    for seed in sorted(holders, key=lambda seed: (len(holders[seed]), seed)):
        place = min(holders[seed], key=lambda place: (load[place], place))
        assigned[seed] = place
        load[place] += 1
    return dict(sorted(assigned.items()))

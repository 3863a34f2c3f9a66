"""How often each answer is in a masked sum, where stale ones count for less: whole numbers.

    weight, 0 to 1 ──▶ 8 * weight, rounded, 1 to 8 ──▶ at least `floor` answers of each number

Keyholders are told these numbers, and open no sum in which fewer than `floor` clients have the same
one (`keyholder/rules.py` says why). So neighbouring numbers are put together, and all that have one
of them get the same: of all ways to do that the one by which the numbers move least in all. Then
they are divided by what divides all of them, so that with one number for all it is 1.

The same for the same weights, in whatever order; pure.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from math import gcd
from typing import TypeVar

from fedmqtt.messages import TIMES_MAX

_T = TypeVar("_T", bound=Hashable)


def times(weights: Mapping[_T, float], floor: int) -> dict[_T, int]:
    """Of each answer, from weights in (0, 1]. With fewer than `floor`, once each: no sum of those
    is opened."""
    if len(weights) < floor:
        return dict.fromkeys(weights, 1)
    wanted = {one: max(1, round(TIMES_MAX * weight)) for one, weight in weights.items()}
    found = _levels(Counter(wanted.values()), floor)
    common = gcd(*found.values())
    return {one: found[level] // common for one, level in wanted.items()}


def _levels(counts: Mapping[int, int], floor: int) -> dict[int, int]:
    """What becomes of each number, given how many answers want it."""
    ways = (
        {
            level: chosen
            for group, chosen in zip(groups, _middles(groups, counts), strict=True)
            for level in group
        }
        for groups in _groupings(sorted(counts))
        if all(sum(counts[level] for level in group) >= floor for group in groups)
    )
    # Of two that move them as little, the one with larger numbers.
    return min(
        ways,
        key=lambda way: (
            sum(abs(to - level) * counts[level] for level, to in way.items()),
            [-way[level] for level in sorted(way)],
        ),
    )


def _groupings(levels: Sequence[int]) -> Iterator[list[Sequence[int]]]:
    """All ways to cut them into runs of neighbours: 128 at the most."""
    inner = range(1, len(levels))
    for count in range(len(levels)):
        for cuts in combinations(inner, count):
            bounds = [0, *cuts, len(levels)]
            yield [levels[start:stop] for start, stop in pairwise(bounds)]


def _middles(groups: Sequence[Sequence[int]], counts: Mapping[int, int]) -> list[int]:
    """Of each group its median, the upper one of two: no other number moves its members less."""
    found = []
    for group in groups:
        members = [level for level in group for _ in range(counts[level])]
        found.append(members[len(members) // 2])
    return found

"""Places of a round that go to clients because little is known of them.

A policy that goes by what it has measured never measures the others: whoever was slow, or had a
low loss, on the one day it was asked would never be asked again. Those who were never invited come
first. When there is none of them left, everybody is as likely as any other.
"""

import math
from collections.abc import Sequence
from random import Random

from coordinator.known import UNKNOWN
from coordinator.selection import Fleet
from fedmqtt.topics import ClientId


def places(count: int, share: float, chance: Random) -> int:
    """How many of `count` places a share of them is: its expectation is exact, also of few."""
    exact = count * share
    whole = math.floor(exact)
    return min(count, whole + (chance.random() < exact - whole))


def draw(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet
) -> list[ClientId]:
    """So many of them, each once; there must be as many."""
    new = [one for one in candidates if not known.get(one, UNKNOWN).invited]
    if len(new) >= count:
        return chance.sample(new, count)
    others = [one for one in candidates if known.get(one, UNKNOWN).invited]
    return [*new, *chance.sample(others, count - len(new))]

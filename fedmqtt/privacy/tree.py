"""Noise for long runs: what all rounds up to now have in noise grows with log t, not with t.

Rounds are the leaves of a binary tree, and each node has noise of its own. The sum of rounds 1 to t
gets the noise of the few nodes that cover them exactly, so round t itself gets by how much that
differs:

    t = 1      2          3      4                  Z_3 = [1 2] + [3]
    [1]      [1 2]       [3]   [1 2 3 4]            round 4 gets  [1 2 3 4] - [1 2] - [3]

A device that took part in round t is in each node above it, and that is the price: with sigma for
each node, what k rounds of T make of one device has norm sqrt(S) C, S from `sensitivity`. It pays
where T is large and k small.

Source: Kairouz, McMahan, Song, Thakkar, Thakurta and Xu, "Practical and Private (Deep) Learning
without Sampling or Shuffling", ICML 2021 (DP-FTRL), section 3 and appendix D.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]


class Node(NamedTuple):
    level: int
    place: int
    """It covers rounds place * 2^level + 1 to (place + 1) * 2^level."""


def covering(rounds: int) -> list[Node]:
    """The nodes that together cover rounds 1 to `rounds`, largest first."""
    levels = reversed(range(rounds.bit_length()))
    return [Node(level, (rounds >> level) - 1) for level in levels if rounds >> level & 1]


def increment(number: int, size: int, of_node: Callable[[Node], Whole]) -> Whole:
    """The noise of round `number`, from 1 on: what covers all up to it, less what did before.

    `of_node` gives the same for a node whenever it is asked, shape (size,).
    """
    before, now = set(covering(number - 1)), set(covering(number))
    noise: Whole = np.zeros(size, np.int64)
    for node in sorted(now - before):
        noise += of_node(node)
    for node in sorted(before - now):
        noise -= of_node(node)
    return noise


def sensitivity(rounds: int, participations: int, apart: int = 1) -> int:
    """The square of the norm that one device can have in all nodes of `rounds` rounds, in clip
    norms: it takes part in `participations` of them, of any `apart` in a row in one at most.

    A node with m of its rounds has a vector of norm at most m. On each level the sum of m^2 is
    largest where as few nodes as possible have all, and rounds in a row from the first on make it
    so on every level at once: for apart = 1 it is reached. For others it is an upper bound.
    """
    return sum(_of_level(one, participations, apart) for one in _levels(rounds))


class _Level(NamedTuple):
    width: int
    """Rounds that a node of it covers."""
    nodes: int


def _levels(rounds: int) -> Iterator[_Level]:
    for level in range(rounds.bit_length()):
        yield _Level(1 << level, rounds >> level)


def _of_level(level: _Level, participations: int, apart: int) -> int:
    most = -(-level.width // apart)
    full, rest = divmod(participations, most)
    if full >= level.nodes:
        return int(level.nodes * most**2)
    return int(full * most**2 + rest**2)

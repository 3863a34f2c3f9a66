"""Cutting bytes into chunks and putting them together again, out of order and with repeats.

A chunk's size is chosen by the sender from what the broker admits; every chunk has that size but
the last, so number and size tell where a chunk belongs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Ranges = tuple[tuple[int, int], ...]
"""Half-open, ascending ranges of chunk numbers: ((0, 3), (7, 8)) is chunks 0, 1, 2 and 7."""


def count(size_bytes: int, chunk_bytes: int) -> int:
    return -(-size_bytes // chunk_bytes)


def span(index: int, size_bytes: int, chunk_bytes: int) -> tuple[int, int]:
    """Where chunk `index` begins and ends in the whole."""
    return index * chunk_bytes, min((index + 1) * chunk_bytes, size_bytes)


def numbers(ranges: Iterable[tuple[int, int]], below: int) -> Iterator[int]:
    """The chunk numbers in `ranges` that exist, ascending; what is named again is passed over.

    A peer's thousand equal ranges must not become a thousand copies.
    """
    reached = 0
    for start, stop in ranges:
        yield from range(max(reached, start), min(stop, below))
        reached = max(reached, min(stop, below))


@dataclass(slots=True)
class Missing:
    """Which chunks of a whole have not arrived. One byte of memory per chunk."""

    size_bytes: int
    chunk_bytes: int
    arrived: bytearray = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = count(self.size_bytes, self.chunk_bytes)
        self.arrived = bytearray(self.left)

    def take(self, index: int, length: int) -> bool:
        """Whether chunk `index` is new and has just the length it must have; if so, tick it off."""
        if not 0 <= index < len(self.arrived) or self.arrived[index]:
            return False
        start, stop = span(index, self.size_bytes, self.chunk_bytes)
        if length != stop - start:
            return False
        self.arrived[index] = 1
        self.left -= 1
        return True

    def ranges(self) -> Ranges:
        """What is still missing."""
        found: list[tuple[int, int]] = []
        start = self.arrived.find(0)
        while start >= 0:
            stop = self.arrived.find(1, start)
            stop = len(self.arrived) if stop < 0 else stop
            found.append((start, stop))
            start = self.arrived.find(0, stop)
        return tuple(found)

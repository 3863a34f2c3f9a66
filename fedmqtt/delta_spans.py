"""Stretches of a model that a delta treats as what they are, and not as numbers like any other.

    unchanged       numbers that are as they were: left out of what the codec sees, so untouched
    not negative    numbers of which none may fall below zero, as the running variances of a
                    BatchNorm: a codec's error there would make square roots of negative numbers

As they stand in a delta file: from where and to where, unsigned 64-bit little-endian each.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedmqtt.weights import Array

Span = tuple[int, int]
"""From where, and to before where, in a flat vector."""

SPANS_MAX = 4096
"""Of one kind in a delta: more have nothing special about them."""
SPAN_BYTES = 16


def unchanged(tensors: Iterable[Span], old: Array, new: Array) -> list[Span]:
    """Those that are the same in both, neighbours as one; none where all of them are."""
    found: list[Span] = []
    for start, stop in tensors:
        if start == stop or not np.array_equal(old[start:stop], new[start:stop]):
            continue
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, stop))
    # Nothing would be left for the codec.
    return [] if found == [(0, old.size)] else found[:SPANS_MAX]


def fallen(tensors: Iterable[Span], meant: Array, made: Array) -> list[Span]:
    """Those without a number below zero in `meant`, and with one in `made`."""
    return [
        (start, stop)
        for start, stop in tensors
        if made[start:stop].min(initial=0) < 0 <= meant[start:stop].min(initial=np.inf)
    ][:SPANS_MAX]


def outside(spans: Sequence[Span], size: int) -> NDArray[np.bool_]:
    """Which numbers are in none of them, shape (size,)."""
    found = np.ones(size, np.bool_)
    for start, stop in spans:
        found[start:stop] = False
    return found


def lift(numbers: Array, spans: Iterable[Span]) -> None:
    """What is below zero in these becomes 0, in place."""
    for start, stop in spans:
        part = numbers[start:stop]
        # `maximum` may make a 0 of -0.0 on one machine, and not on another.
        part[part < 0] = 0


def write(spans: Sequence[Span]) -> bytes:
    return np.array(spans, "<u8").tobytes()


def read(data: memoryview, size: int) -> list[Span]:
    """Of a vector with so many numbers. Raises ValueError where they are none of it."""
    ends = np.frombuffer(data, "<u8").tolist()
    if any(one >= other for one, other in zip(ends[::2], ends[1::2], strict=True)):
        raise ValueError("a stretch that ends before it begins")
    if any(one > other for one, other in pairwise(ends)) or max(ends, default=0) > size:
        raise ValueError("stretches out of order, or of a larger model")
    return list(zip(ends[::2], ends[1::2], strict=True))

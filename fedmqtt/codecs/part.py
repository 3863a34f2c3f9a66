"""A random part of the numbers, the same for all clients of a round; others count as unchanged.

Of each run of 1 / share successive numbers one is drawn, so that every layer has its share. What is
sent is multiplied by the length of its run: then the average over rounds is that of all numbers,
and the square of the error is at most (1 / share rounded up, less 1) times that of the norm.
`scaled=false` sends the numbers as they are. That is less than was learned, and is what a strategy
needs that keeps differences from round to round: there multiplied ones grow without bound.

Konecny et al., "Federated Learning: Strategies for Improving Communication Efficiency", 2016,
section 2 (random mask); drawn by strata here.
"""

import functools
import math
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Subset
from fedmqtt.weights import Array

_Indices = NDArray[np.int64]


class Stage(Subset, frozen=True):
    share: Annotated[float, Meta(ge=0.001, le=1, description="Of the numbers that are sent.")]
    scaled: Annotated[
        bool, Meta(description="Multiply them, so that the average over rounds stays right.")
    ] = True

    def kept(self, size: int) -> int:
        return math.ceil(self.share * size)

    def take(self, values: Array, shared: Chance) -> Array:
        drawn, lengths = _draw(values.size, self.kept(values.size), shared)
        kept: Array = values[drawn]
        return kept * lengths.astype(np.float32) if self.scaled else kept

    def places(self, size: int, shared: Chance) -> _Indices:
        return _draw(size, self.kept(size), shared)[0]

    def lengths(self, size: int, shared: Chance) -> NDArray[np.int32]:
        """Of the runs that those at `places` were drawn from, shape (kept,)."""
        return _draw(size, self.kept(size), shared)[1]


# All answers of a round have the same, and a few rounds' answers may come side by side.
@functools.lru_cache(maxsize=4)
def _draw(size: int, kept: int, shared: Chance) -> tuple[_Indices, NDArray[np.int32]]:
    """Which are sent, in order, and how long the run is that each was drawn from; shape (kept,)."""
    # In place where it can be: these are as long as the update.
    ends = np.arange(kept + 1)
    ends *= size
    ends //= max(1, kept)
    lengths = np.diff(ends).astype(np.int32)
    words = shared.words("part", (kept + 1) // 2).view("<u4")[:kept]
    # Lengths are 1,000 at most: the product fits, and no place is likelier by more than 2^-22.
    drawn = words.astype(np.int64)
    drawn *= lengths
    drawn >>= 32
    drawn += ends[:-1]
    for array in (drawn, lengths):
        array.flags.writeable = False
    return drawn, lengths

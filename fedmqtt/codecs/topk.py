"""The largest of the numbers, each client's own; what is left out is sent later, when it has grown.

The client keeps on its device what it has not sent, and adds it to the next change before it
chooses again: so nothing is lost for good, only late. The square of the error of one update is
at most 1 - share times that of the norm. Sent alone, without that memory, the largest numbers
would be biased without end.

Where the numbers belong takes 2 + log2(1 / share) bits for each, rounded up: 9 where a hundredth is
sent. Two clients rarely send the same number, so that few of an average's terms are not zero.

Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, algorithm 1. Places as in Elias,
"Efficient Storage and Retrieval by Content and Address of Static Files", J. ACM 21(2), 1974.
"""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmqtt.codecs import Largest
from fedmqtt.weights import Array

_Places = NDArray[np.int64]


class Stage(Largest, frozen=True):
    """On the wire: of each place its lowest bits, the highest first; then of the rest, place after
    place, as many zeros as it is larger than the one before, and a one."""

    share: Annotated[float, Meta(ge=0.0001, le=0.5, description="Of the numbers that are sent.")]

    def kept(self, size: int) -> int:
        return math.ceil(self.share * size)

    def choose(self, values: Array) -> _Places:
        kept = self.kept(values.size)
        if kept == 0:
            return np.empty(0, np.int64)
        # Sorted as they lie in the vector: the order of the largest means nothing.
        return np.sort(np.argpartition(np.abs(values), values.size - kept)[-kept:])

    def size_bytes(self, size: int) -> int:
        kept, low = self.kept(size), self._low_bits(size)
        return _bytes(kept * low) + _bytes(kept + (size >> low))

    def write(self, places: _Places, size: int) -> bytes:
        low = self._low_bits(size)
        bits = places[:, None] >> np.arange(low - 1, -1, -1) & 1
        ones = np.zeros(places.size + (size >> low), np.uint8)
        ones[(places >> low) + np.arange(places.size)] = 1
        return np.packbits(bits.astype(np.uint8)).tobytes() + np.packbits(ones).tobytes()

    def read(self, data: memoryview, size: int) -> _Places:
        kept, low = self.kept(size), self._low_bits(size)
        packed = np.frombuffer(data, np.uint8)
        split = _bytes(kept * low)
        bits = np.unpackbits(packed[:split], count=kept * low).reshape(kept, low)
        ones = np.flatnonzero(np.unpackbits(packed[split:], count=kept + (size >> low)))
        if ones.size != kept:
            raise ValueError(f"{ones.size} places where {kept} belong")
        places = (ones - np.arange(kept)) << low
        for bit in range(low):
            places |= bits[:, bit].astype(np.int64) << (low - 1 - bit)
        if kept and (places[-1] >= size or (np.diff(places) <= 0).any()):
            raise ValueError("places that do not grow, or lie behind the last number")
        return places

    def _low_bits(self, size: int) -> int:
        """As many as leave about one step of the rest for each place."""
        return max(0, (size // max(1, self.kept(size))).bit_length() - 1)


def _bytes(bits: int) -> int:
    return -(-bits // 8)

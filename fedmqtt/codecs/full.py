"""Full precision: the float32 numbers as they are, little-endian.

Exact; 4 bytes a number.
"""

import numpy as np

from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_WIRE_FLOAT = np.dtype("<f4")


class Stage(Numbers, frozen=True):
    def size_bytes(self, size: int) -> int:
        return size * _WIRE_FLOAT.itemsize

    def encode(self, values: Array, own: Chance) -> memoryview:
        """A view of `values` where the machine is little-endian, a copy elsewhere."""
        return values.astype(_WIRE_FLOAT, copy=False).data.cast("B")

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        """A read-only view into `data`."""
        return np.frombuffer(data, _WIRE_FLOAT).astype(np.float32, copy=False)

    def error_max(self, values: Array) -> float:
        return 0.0

    def error_square(self, values: Array) -> float:
        return 0.0

"""IEEE half precision, each number rounded to the nearest.

2 bytes a number. A number comes back within 2^-11 of itself, or within 2^-25 where it is below
2^-14; beyond 65,504 there is no such number. The rounding is the same for equal numbers, so errors
of many clients need not average out.
"""

import math
from typing import ClassVar

import numpy as np

from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_LARGEST = 65_504.0
_INFINITE = 0x7C00


class Stage(Numbers, frozen=True):
    is_unbiased: ClassVar[bool] = False

    def size_bytes(self, size: int) -> int:
        return 2 * size

    def encode(self, values: Array, own: Chance) -> bytes:
        if np.abs(values).max(initial=0) > _LARGEST:
            raise ValueError(f"has values beyond {_LARGEST:,.0f}, the largest of float16")
        return values.astype("<f2").tobytes()

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        halves = np.frombuffer(data, "<i2")
        if (halves & _INFINITE).max(initial=0) == _INFINITE:
            raise ValueError("a number is not finite")
        # Exponent and fraction where a float32 has them, the sign copied to the bits above: 3 times
        # as fast as numpy's own conversion. The exponent's bias is off by 112; subnormal numbers
        # come out right too.
        bits = halves.astype(np.int32)
        bits <<= 13
        bits &= np.int32(-0x7000_2000)
        numbers = bits.view(np.float32)
        numbers *= np.float32(2.0**112)
        return numbers

    def error_max(self, values: Array) -> float:
        return math.sqrt(self.error_square(values))

    def error_square(self, values: Array) -> float:
        most = np.abs(values, dtype=np.float64) * 2.0**-11 + 2.0**-25
        return float(np.square(most).sum())

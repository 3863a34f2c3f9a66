"""The upper half of a float32, rounded at random so that it is right on average.

2 bytes a number. A number comes back as one of the two next to it, which are 2^-7 of it apart at
most. As wide a range as float32 has, with 8 bits of precision.
"""

import math

import numpy as np

from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array


class Stage(Numbers, frozen=True):
    def size_bytes(self, size: int) -> int:
        return 2 * size

    def encode(self, values: Array, own: Chance) -> bytes:
        # Between two neighbours a float32 grows with its bits as a whole number does, so a carry
        # out of the lower half comes as often as the number is near to the larger one.
        chance = own.words("rounding", -(-values.size // 4)).view("<u2")[: values.size]
        bits = np.ascontiguousarray(values).view(np.uint32) + chance
        data: bytes = (bits >> 16).astype("<u2").tobytes()
        return data

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        bits = np.frombuffer(data, "<u2").astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)

    def error_max(self, values: Array) -> float:
        apart = np.abs(values, dtype=np.float64) * 2.0**-7 + 2.0**-133
        return math.sqrt(np.square(apart).sum())

    def error_square(self, values: Array) -> float:
        # Of a number that takes one of two values, the variance is a quarter of their distance's
        # square at most.
        return self.error_max(values) ** 2 / 4

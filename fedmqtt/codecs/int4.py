"""15 levels between plus and minus a small block's largest magnitude, rounded at random.

0.531 bytes a number. Each comes back within one level, a 7th of the largest magnitude among the 64
numbers of its block (and up to a 128th more, as scales are sent in 16 bits); right on average.

Not rotated, unlike `eden`: small blocks do the same for less. A rotation by 1,024 spreads outliers
over their block, and its error was 0.195 of the norm of a real update; in blocks of 64, where an
outlier spoils 63 others at most, it was 0.169, and decoding took a tenth of the time.

Alistarh et al., "QSGD", NeurIPS 2017, with the largest magnitude in place of the norm, by blocks as
in their section 4.
"""

import math

import numpy as np

from fedmqtt import codec_blocks as blocks
from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_LEVELS = 7
_BLOCK = 64


class Stage(Numbers, frozen=True):
    """On the wire: half a float32 per block, then two numbers in a byte: one of the vector's first
    half in the lower bits, and the one as far into the second half. So each half is decoded as one
    run of bytes."""

    def size_bytes(self, size: int) -> int:
        return blocks.count(size, _BLOCK) * blocks.SHORT_SCALE_BYTES + _half(size)

    def encode(self, values: Array, own: Chance) -> bytes:
        steps = _steps(values)
        levels = np.zeros((2, _half(values.size)), np.uint8)
        rounded = blocks.round_at_random(values, steps, _LEVELS, own, _BLOCK)
        levels.reshape(-1)[: values.size] = rounded + np.int8(8)
        pairs: bytes = (levels[0] | levels[1] << 4).tobytes()
        return blocks.write_short_scales(steps) + pairs

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        number = blocks.count(size, _BLOCK)
        steps = blocks.read_short_scales(data, number)
        pairs = np.frombuffer(data[number * blocks.SHORT_SCALE_BYTES :], np.uint8)
        levels = np.empty((2, pairs.size), np.uint8)
        np.bitwise_and(pairs, 15, out=levels[0])
        np.right_shift(pairs, 4, out=levels[1])
        # It wraps around where a level is below zero, as the other way of reading it does.
        levels -= np.uint8(8)
        numbers = levels.view(np.int8).reshape(-1)[:size].astype(np.float32)
        blocks.scale(numbers, steps, _BLOCK)
        return numbers

    def error_max(self, values: Array) -> float:
        steps = np.repeat(_steps(values).astype(np.float64), _BLOCK)
        return math.sqrt(np.square(steps[: values.size]).sum())

    def error_square(self, values: Array) -> float:
        return self.error_max(values) ** 2 / 4


def _steps(values: Array) -> Array:
    return blocks.shortened(blocks.steps(values, _LEVELS, _BLOCK))


def _half(size: int) -> int:
    return (size + 1) // 2

"""255 levels between plus and minus a block's largest magnitude, rounded at random.

1.004 bytes a number. Each comes back within one level, a 127th of the largest magnitude among the
1,024 numbers of its block; right on average.

Alistarh et al., "QSGD", NeurIPS 2017, with the largest magnitude in place of the norm.
"""

import math

import numpy as np

from fedmqtt import codec_blocks as blocks
from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_LEVELS = 127


class Stage(Numbers, frozen=True):
    """On the wire: a float32 per block, then a signed byte per number."""

    def size_bytes(self, size: int) -> int:
        return blocks.count(size) * blocks.SCALE_BYTES + size

    def encode(self, values: Array, own: Chance) -> bytes:
        steps = blocks.steps(values, _LEVELS)
        levels = blocks.round_at_random(values, steps, _LEVELS, own)
        return blocks.write_scales(steps) + levels.tobytes()

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        number = blocks.count(size)
        steps = blocks.read_scales(data, number)
        levels = np.frombuffer(data[number * blocks.SCALE_BYTES :], np.int8)
        numbers = levels.astype(np.float32)
        blocks.scale(numbers, steps)
        return numbers

    def error_max(self, values: Array) -> float:
        steps = np.repeat(blocks.steps(values, _LEVELS).astype(np.float64), blocks.BLOCK)
        return math.sqrt(np.square(steps[: values.size]).sum())

    def error_square(self, values: Array) -> float:
        return self.error_max(values) ** 2 / 4

"""15 levels, rounded at random, of a block that is randomly rotated before.

0.504 bytes a number. On average the square of the error is at most (ln(2 w) + 1) / 98, for a block
of w = 1,024 numbers 0.088, of the square of the block's norm: each rotated number is within a 7th
of the largest of them, and those are sums with random signs (Hoeffding's bound on the largest of
w). Right on average. In the worst case, unlikely as it is, the error is sqrt(w) / 7 of the norm.

Suresh et al., "Distributed Mean Estimation with Limited Communication", ICML 2017, section 3.
"""

import math

import numpy as np

from fedmqtt import codec_blocks as blocks
from fedmqtt import rotation
from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_LEVELS = 7
_PAIRS: Array = np.stack(
    [np.arange(256) % 16 - 8.0, np.arange(256) // 16 - 8.0], axis=1, dtype=np.float32
)
"""The two levels that a byte stands for, the lower half's first; shape (256, 2)."""


class Stage(Numbers, frozen=True):
    """On the wire: a float32 per block, then two rotated numbers in a byte."""

    def size_bytes(self, size: int) -> int:
        return blocks.count(size) * blocks.SCALE_BYTES + rotation.padded(size) // 2

    def encode(self, values: Array, own: Chance) -> bytes:
        rotated = rotation.forward(values, own)
        steps = blocks.steps(rotated, _LEVELS)
        levels = blocks.round_at_random(rotated, steps, _LEVELS, own)
        halves = (levels + 8).view(np.uint8)
        return blocks.write_scales(steps) + (halves[::2] | halves[1::2] << 4).tobytes()

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        number = blocks.count(size)
        steps = blocks.read_scales(data, number)
        pairs = np.frombuffer(data[number * blocks.SCALE_BYTES :], np.uint8)
        numbers = _PAIRS.take(pairs, axis=0).reshape(-1)
        rotation.inverse(numbers, steps, own)
        return numbers[:size]

    def error_max(self, values: Array) -> float:
        norms, widths = _shapes(values)
        return math.sqrt((np.square(norms / _LEVELS) * widths).sum())

    def error_square(self, values: Array) -> float:
        norms, widths = _shapes(values)
        return float((np.square(norms) * (np.log(2 * widths) + 1)).sum()) / 98


def _shapes(values: Array) -> tuple[rotation.Doubles, rotation.Doubles]:
    return blocks.norms(values), rotation.widths(values.size)

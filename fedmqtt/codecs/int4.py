"""15 levels between plus and minus a small block's largest magnitude, rounded at random.

0.531 bytes a number. Each comes back within one level, a 7th of the largest magnitude among the 64
numbers of its block (and up to a 128th more, as scales are sent in 16 bits); right on average.

Not rotated, unlike `eden`: small blocks do the same for less. A rotation by 1,024 spreads outliers
over their block, and its error was 0.195 of the norm of a real update; in blocks of 64, where an
outlier spoils 63 others at most, it was 0.169, and decoding took a tenth of the time.

Alistarh et al., "QSGD", NeurIPS 2017, with the largest magnitude in place of the norm, by blocks as
in their section 4.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from fedmqtt import codec_blocks as blocks
from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_LEVELS = 7
_BLOCK = 64
_WORD = 4  # numbers in 16 bits, which are decoded at once


class Stage(Numbers, frozen=True):
    """On the wire: half a float32 per block, then four numbers in 16 bits, the lowest first."""

    def size_bytes(self, size: int) -> int:
        return blocks.count(size, _BLOCK) * blocks.SHORT_SCALE_BYTES + 2 * -(-size // _WORD)

    def encode(self, values: Array, own: Chance) -> bytes:
        steps = _steps(values)
        levels = np.zeros(-(-values.size // _WORD) * _WORD, np.int8)
        levels[: values.size] = blocks.round_at_random(values, steps, _LEVELS, own, _BLOCK)
        halves = (levels + 8).view(np.uint8)
        return blocks.write_short_scales(steps) + (halves[::2] | halves[1::2] << 4).tobytes()

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        number = blocks.count(size, _BLOCK)
        steps = blocks.read_short_scales(data, number)
        words = np.frombuffer(data[number * blocks.SHORT_SCALE_BYTES :], "<u2")
        numbers = _words().take(words).view(np.float32)[:size]
        blocks.scale(numbers, steps, _BLOCK)
        return numbers

    def error_max(self, values: Array) -> float:
        steps = np.repeat(_steps(values).astype(np.float64), _BLOCK)
        return math.sqrt(np.square(steps[: values.size]).sum())

    def error_square(self, values: Array) -> float:
        return self.error_max(values) ** 2 / 4


def _steps(values: Array) -> Array:
    return blocks.shortened(blocks.steps(values, _LEVELS, _BLOCK))


@functools.cache
def _words() -> NDArray[np.complex128]:
    """The four float32 that 16 bits stand for, as one item: to take those is five times as fast as
    rows of four. Shape (65536,), a megabyte."""
    numbers = np.arange(1 << 16)[:, None] >> np.array([0, 4, 8, 12]) & 15
    words: NDArray[np.complex128] = (numbers - 8).astype(np.float32).view(np.complex128).ravel()
    return words

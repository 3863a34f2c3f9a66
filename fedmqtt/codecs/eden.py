"""One bit a number: the signs of a block that is randomly rotated, and one scale.

0.129 bytes a number. The scale is |x|^2 / |R x|_1 of each block x (R is the rotation): what comes
back then has the block's full share of x, and an error at right angles to it. The square of the
error is pi / 2 - 1 = 0.57 of the square of the block's norm, whatever the block, and it averages
out over clients: entirely for a uniform rotation; but for 0.2% of the norm for the one used here,
4% in a last block of three numbers (measured; see `rotation.py`). In the worst case, which never
came, the error is sqrt(w - 1) times the norm of a block of w = 1,024.

Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation", NeurIPS 2021 (the unbiased scale),
and "EDEN: Communication-Efficient and Robust Distributed Mean Estimation for Federated Learning",
ICML 2022.
"""

import math

import numpy as np

from fedmqtt import codec_blocks as blocks
from fedmqtt import rotation
from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Numbers
from fedmqtt.weights import Array

_ERROR_SQUARE = 0.6
"""Of the squared norm: pi / 2 - 1, and some more than was measured in any block."""


class Stage(Numbers, frozen=True):
    """On the wire: a float32 per block, then eight rotated numbers' signs in a byte."""

    def size_bytes(self, size: int) -> int:
        return blocks.count(size) * blocks.SCALE_BYTES + rotation.padded(size) // 8

    def encode(self, values: Array, own: Chance) -> bytes:
        rotated = rotation.forward(values, own)
        sums = [np.abs(block).sum(axis=1, dtype=np.float64) for block in blocks.of(rotated)]
        sizes = np.concatenate(sums) if sums else np.empty(0)
        # A block without any change has no scale: any will do, and 0 is exact.
        scales = np.square(blocks.norms(values)) / np.where(sizes > 0, sizes, 1)
        signs = np.packbits(rotated >= 0)
        return blocks.write_scales(scales.astype(np.float32)) + signs.tobytes()

    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        number = blocks.count(size)
        scales = blocks.read_scales(data, number)
        signs = np.frombuffer(data[number * blocks.SCALE_BYTES :], np.uint8)
        numbers = rotation.SIGNS.take(signs, axis=0).reshape(-1)
        rotation.inverse(numbers, scales, own)
        return numbers[:size]

    def error_max(self, values: Array) -> float:
        return math.sqrt((np.square(blocks.norms(values)) * rotation.widths(values.size)).sum())

    def error_square(self, values: Array) -> float:
        return _ERROR_SQUARE * float(np.square(blocks.norms(values)).sum())

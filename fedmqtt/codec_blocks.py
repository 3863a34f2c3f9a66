"""Blocks of a flat vector with a scale each, and rounding that is right on average.

One scale for a whole vector would let a layer with large changes drown those with small ones; with
a rotation by block it would even be biased.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmqtt.codec_chance import Chance
from fedmqtt.weights import Array

_Float = TypeVar("_Float", np.float32, np.float64)

BLOCK = 1024
"""Numbers that share a scale: a scale of 32 bits adds 0.03 bits to each."""

SCALE_BYTES = 4
SHORT_SCALE_BYTES = 2
_SCALE_MAX = 2.0**64
"""Far above what a change within bounds leads to, and low enough that no product overflows."""
_SCALE_MIN = float(np.finfo(np.float32).tiny)
"""Below it a float32 loses precision, and a step is no longer near a 127th of what it was."""


def count(size: int, width: int = BLOCK) -> int:
    return -(-size // width)


def of(flat: NDArray[_Float], width: int = BLOCK) -> Iterator[NDArray[_Float]]:
    """Views of shape (blocks, width): all full blocks, then the rest of them as one block."""
    whole = flat.size // width * width
    if whole:
        yield flat[:whole].reshape(-1, width)
    if whole < flat.size:
        yield flat[whole:].reshape(1, -1)


def steps(flat: Array, levels: int, width: int = BLOCK) -> Array:
    """Each block's distance between two levels, so that its largest magnitude is the last level."""
    found = [np.abs(block).max(axis=1) / np.float32(levels) for block in of(flat, width)]
    return np.maximum(_joined(found), np.float32(_SCALE_MIN))


def norms(flat: Array) -> NDArray[np.float64]:
    """Each block's Euclidean norm."""
    squares = [np.square(block, dtype=np.float64).sum(axis=1) for block in of(flat)]
    return np.sqrt(np.concatenate(squares)) if squares else np.empty(0)


def scale(flat: NDArray[_Float], scales: NDArray[_Float], width: int = BLOCK) -> None:
    """Multiply each block by its scale, in place."""
    start = 0
    for block in of(flat, width):
        block *= scales[start : start + len(block), None]
        start += len(block)


def round_at_random(
    flat: Array, steps_of_blocks: Array, levels: int, chance: Chance, width: int = BLOCK
) -> NDArray[np.int8]:
    """Each number in its block's steps, as one of its two whole neighbours: the nearer the
    likelier, so that the mean over chance is the number itself (to 2^-24 of a step).

    Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding",
    NeurIPS 2017, section 3.1.
    """
    in_steps = flat.copy()
    # A division: a reciprocal of a tiny step would not be finite.
    start = 0
    for block in of(in_steps, width):
        block /= steps_of_blocks[start : start + len(block), None]
        start += len(block)
    below = np.floor(in_steps)
    is_above = chance.uniform("rounding", flat.size) < in_steps - below
    # Divided by its step, the largest magnitude may come out a trifle above the last level.
    rounded: NDArray[np.int8] = np.clip(below + is_above, -levels, levels).astype(np.int8)
    return rounded


def write_scales(scales: Array) -> bytes:
    return scales.astype("<f4").tobytes()


def read_scales(data: memoryview, number: int) -> Array:
    """Of so many blocks. Raises ValueError where one is no scale."""
    scales = np.frombuffer(data[: number * SCALE_BYTES], "<f4").astype(np.float32, copy=False)
    return _checked(scales)


def shortened(scales: Array) -> Array:
    """The next larger ones, or the same, of which 16 bits say all: bfloat16."""
    bits = scales.view(np.uint32)
    return ((bits + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)


def write_short_scales(scales: Array) -> bytes:
    """Of those that are `shortened`."""
    return (scales.view(np.uint32) >> 16).astype("<u2").tobytes()


def read_short_scales(data: memoryview, number: int) -> Array:
    """Of so many blocks. Raises ValueError where one is no scale."""
    halves = np.frombuffer(data[: number * SHORT_SCALE_BYTES], "<u2")
    return _checked((halves.astype(np.uint32) << 16).view(np.float32))


def _checked(scales: Array) -> Array:
    # Written so that "not a number" fails it too.
    if not ((scales >= 0) & (scales <= _SCALE_MAX)).all():
        raise ValueError("a block's scale is negative, too large or no number")
    return scales


def _joined(arrays: list[Array]) -> Array:
    return np.concatenate(arrays) if arrays else np.empty(0, np.float32)

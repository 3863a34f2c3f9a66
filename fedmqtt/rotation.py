"""A random rotation of a vector, block by block: it spreads what a few numbers hold over all.

    rotated = H D2 H D1 x / width        D1, D2: random signs;  H: Hadamard matrix of +1 and -1

After it every number of a block has about the same spread, whatever the block was like, so that a
few bits for each serve all of them. Suresh et al., "Distributed Mean Estimation with Limited
Communication", ICML 2017, section 3, rotates once. Once is not enough here: of a block in which one
number outweighs all others, every sign would be that number's, and 1-bit codes were biased by up to
half of the block's norm. After the second time, 0.2% were left at most in blocks of 1,024, and 4%
in the worst case that was found: three numbers of which one is a hundred times the others.

A block of 1,024 is multiplied as a matrix of 32 by 32 from both sides, two small products in place
of ten passes over memory. The last block of a vector is padded with zeros to the next power of two,
and to 256 at least: in fewer dimensions signs are too few to mix anything (64 left 9% there).

Undoing it on whole numbers is exact, as long as those have at most 4 bits: all sums stay below
2^24. So what a coordinator decodes does not depend on the machine it runs on.
"""

import functools
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmqtt import codec_blocks as blocks
from fedmqtt.codec_blocks import BLOCK
from fedmqtt.codec_chance import Chance
from fedmqtt.weights import Array

Doubles = NDArray[np.float64]
_Float = TypeVar("_Float", np.float32, np.float64)

_WIDTH_MIN = 256
_BLOCKS_AT_ONCE = 128  # half a megabyte stays in the second-level cache

SIGNS: Array = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * np.float32(2) - 1
"""The eight signs, +1 or -1, that a byte stands for, from its highest bit; shape (256, 8)."""


def padded(size: int) -> int:
    """How many numbers `size` become when they are rotated."""
    whole, rest = divmod(size, BLOCK)
    return whole * BLOCK + (max(_WIDTH_MIN, 1 << (rest - 1).bit_length()) if rest else 0)


def widths(size: int) -> Doubles:
    """Of each block of `size` numbers when it is rotated."""
    found = np.full(blocks.count(size), float(BLOCK))
    if size % BLOCK:
        found[-1] = padded(size % BLOCK)
    return found


def forward(values: Array, chance: Chance) -> Array:
    """The rotated numbers, shape (padded(n),); each block's norm stays what it was."""
    flat = np.zeros(padded(values.size), np.float32)
    flat[: values.size] = values
    first, second = _signs(flat.size, chance)
    for span in _spans(flat.size):
        for block in blocks.of(flat[span]):
            _flip(block, first, span)
            _multiply(block)
            _flip(block, second, span)
            _multiply(block)
            # A power of two: exact.
            block /= np.float32(block.shape[1])
    return flat


def inverse(rotated: NDArray[_Float], scales: NDArray[_Float], chance: Chance) -> None:
    """Undo it in place, and multiply each block by its scale; shape (padded(n),).

    In float64 it is exact on whole numbers below 2^33: the scale comes last.
    """
    first, second = _signs(rotated.size, chance)
    for span in _spans(rotated.size):
        for block in blocks.of(rotated[span]):
            _multiply(block)
            _flip(block, second, span)
            _multiply(block)
            _flip(block, first, span)
            start = span.start // BLOCK
            block *= scales[start : start + len(block), None] / np.float32(block.shape[1])


def _spans(size: int) -> list[slice]:
    """Cut so that the rest, which is no full block, stands alone."""
    whole = size // BLOCK * BLOCK
    step = _BLOCKS_AT_ONCE * BLOCK
    spans = [slice(start, min(start + step, whole)) for start in range(0, whole, step)]
    return [*spans, slice(whole, size)] if whole < size else spans


def _signs(size: int, chance: Chance) -> NDArray[np.uint8]:
    """Of both times, eight in a byte; shape (2, size / 8)."""
    return chance.words("rotation", 2 * size // 64).view(np.uint8).reshape(2, size // 8)


def _flip(block: NDArray[_Float], signs: NDArray[np.uint8], span: slice) -> None:
    block *= SIGNS.take(signs[span.start // 8 : span.stop // 8], axis=0).reshape(block.shape)


def _multiply(block: NDArray[_Float]) -> None:
    """By the Hadamard matrix of its width, in place; shape (blocks, width)."""
    columns = 1 << (block.shape[1].bit_length() // 2)
    rows = block.shape[1] // columns
    # One small product for each block, also from the right, where one large one would do: OpenBLAS
    # computes that on all cores, and its threads then wait for the next one without sleeping, which
    # took more CPU than all else about an answer. Its float32 sums depended on their number, too.
    squares = block.reshape(-1, rows, columns)
    half = np.matmul(squares, _hadamard(columns))
    np.matmul(_hadamard(rows), half, out=squares)


@functools.cache
def _hadamard(width: int) -> Array:
    """Sylvester's; `width` is a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < width:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.ascontiguousarray(matrix, np.float32)

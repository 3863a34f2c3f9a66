"""Matrices as products of two thin ones: of a layer's change, its few strongest directions.

What a matrix of m rows and n columns changes by is sent as rank (m + n) numbers instead of m n;
tensors with more dimensions count as matrices of their first one by all others. Biases, and
matrices for which it would not be fewer numbers, are sent whole. The client keeps on its device
what it has not sent and adds it to the next change, so that nothing is lost for good.

Factors are scaled so that their product is the nearest to the matrix there is, as they arrive:
so the error of one update is at most the norm of what was to be sent, certain, whatever stage
stands behind. Without rounding it is what all but about the `rank` largest singular values leave.

Vogels et al., "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization",
NeurIPS 2019, algorithms 1 and 2. Theirs sums P over the workers before it computes Q, and begins
with the Q of the step before. Clients that come and go send both factors at once, and begin with
chance: the few iterations that take the place of the warm start are cheap beside training.

To encode, a machine's own matrix products do, whose last digits differ from one to another. What
comes back is a function of the bytes alone, the same on every machine.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmqtt.codec_chance import Chance
from fedmqtt.codecs import Factors
from fedmqtt.weights import Array, Shapes

_ITERATIONS = 4
"""Of a real update the first leaves out 0.87 of the norm at rank 1 and the fourth 0.76, where 0.74
is the least there can be; at rank 4 it is 0.51, 0.34 and 0.33."""
_SCALE_BYTES = 4
_SCALE_MAX = 2.0**64
"""Far above what a change within bounds leads to."""
_EXPONENT_MIN = -120
"""What is smaller in a tensor than 2^-120 need not come back."""
_AT_ONCE = 2**15
"""Numbers of a product that are made together: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A tensor: where its numbers lie among all, its factors' among those sent, and its scales."""

    numbers: slice
    sent: slice
    scales: slice
    rows: int
    columns: int
    rank: int
    """0: it is sent whole."""

    def split(self, factors: Array) -> tuple[Array, Array]:
        """P and Q of all factors: views of shapes (rank, rows) and (rank, columns)."""
        mine = factors[self.sent]
        border = self.rank * self.rows
        return mine[:border].reshape(self.rank, -1), mine[border:].reshape(self.rank, -1)


class Stage(Factors, frozen=True):
    """On the wire: a float32 for each tensor that is sent whole and for each column of the factors
    of others, by which what is decoded is multiplied; then, tensor after tensor, the numbers that
    the stage behind encodes: those of P column by column, then those of Q."""

    rank: Annotated[int, Meta(ge=1, le=256, description="Columns of each factor.")]

    def kept(self, size: int, shapes: Shapes) -> int:
        return sum(_length(piece.sent) for piece in _pieces(self.rank, size, shapes))

    def size_bytes(self, size: int, shapes: Shapes) -> int:
        return _SCALE_BYTES * sum(
            _length(piece.scales) for piece in _pieces(self.rank, size, shapes)
        )

    def factor(self, values: Array, shapes: Shapes, shared: Chance) -> Array:
        found: list[Array] = []
        for number, piece in enumerate(_pieces(self.rank, values.size, shapes)):
            mine, _ = _normal(values[piece.numbers])
            if piece.rank:
                start = shared.uniform(f"lowrank/{number}", piece.columns * piece.rank)
                found += _factors(mine.reshape(piece.rows, -1), start.reshape(-1, piece.rank))
            else:
                found.append(mine)
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def scale(self, values: Array, factors: Array, shapes: Shapes) -> bytes:
        found: list[NDArray[np.float64]] = []
        for piece in _pieces(self.rank, values.size, shapes):
            mine, exponent = _normal(values[piece.numbers])
            if piece.rank:
                best = _best_scales(mine.reshape(piece.rows, -1), *piece.split(factors))
            else:
                best = _best_scale(mine, factors[piece.sent])
            found.append(np.clip(np.ldexp(best, exponent), -_SCALE_MAX, _SCALE_MAX))
        return np.concatenate(found).astype("<f4").tobytes() if found else b""

    def multiply(self, scales: memoryview, factors: Array, size: int, shapes: Shapes) -> Array:
        scaling = np.frombuffer(scales, "<f4").astype(np.float32, copy=False)
        # Written so that "not a number" fails it too.
        if not (np.abs(scaling) <= _SCALE_MAX).all():
            raise ValueError("a scale is too large or no number")
        numbers = np.empty(size, np.float32)
        # What overflows is seen by who looks at the outcome.
        with np.errstate(all="ignore"):
            for piece in _pieces(self.rank, size, shapes):
                mine = scaling[piece.scales]
                if piece.rank:
                    rows, columns = piece.split(factors)
                    matrix = numbers[piece.numbers].reshape(piece.rows, -1)
                    _multiply(rows * mine[:, None], columns, matrix)
                else:
                    np.multiply(factors[piece.sent], mine, out=numbers[piece.numbers])
        return numbers


# All answers of a run have the same.
@functools.lru_cache(maxsize=16)
def _pieces(rank: int, size: int, shapes: Shapes) -> tuple[_Piece, ...]:
    return tuple(_cut(rank, size, shapes))


def _cut(rank: int, size: int, shapes: Shapes) -> Iterator[_Piece]:
    number = sent = scales = 0
    for shape in shapes or ((size,),):
        count = math.prod(shape)
        if count == 0:
            continue
        rows, columns = shape[0] if shape else 1, math.prod(shape[1:])
        is_thin = rank * (rows + columns) < count
        taken = rank * (rows + columns) if is_thin else count
        scaled = rank if is_thin else 1
        yield _Piece(
            numbers=slice(number, number + count),
            sent=slice(sent, sent + taken),
            scales=slice(scales, scales + scaled),
            rows=rows,
            columns=columns,
            rank=rank if is_thin else 0,
        )
        number, sent, scales = number + count, sent + taken, scales + scaled
    assert number == size, f"tensors of {number} numbers where there are {size}"


def _length(of: slice) -> int:
    length: int = of.stop - of.start
    return length


def _normal(values: Array) -> tuple[Array, int]:
    """`values`, times a power of two so that they are about 1 on average; and the exponent of
    what they are to be multiplied by to be `values` again, exactly."""
    mean_square = float(np.square(values, dtype=np.float64).mean())
    exponent = max(math.frexp(math.sqrt(mean_square))[1], _EXPONENT_MIN) if mean_square else 0
    return np.ldexp(values, -exponent), exponent


def _factors(matrix: Array, start: Array) -> tuple[Array, Array]:
    """P and Q, flat and column by column, about 1 on average. `start`: in [0, 1), (columns, rank).

    P has columns at right angles, and P Q^T is the projection of the matrix on them.
    """
    rows = math.sqrt(len(matrix))
    right = start - np.float32(0.5)
    for _ in range(_ITERATIONS):
        # Thin, and in double precision: columns that are nearly the same come apart.
        left = np.linalg.qr((matrix @ right).astype(np.float64))[0].astype(np.float32)
        right = matrix.T @ left
    sizes = np.sqrt(np.square(right, dtype=np.float64).mean(axis=0))
    right /= np.where(sizes > 0, sizes, 1).astype(np.float32)
    return (left * np.float32(rows)).T.ravel(), right.T.ravel()


def _best_scales(matrix: Array, left: Array, right: Array) -> NDArray[np.float64]:
    """Of the products of `left`, (rank, rows), and `right`, (rank, columns), that together are
    the nearest to the matrix: least squares, shape (rank,)."""
    shares = np.multiply(matrix @ right.T, left.T, dtype=np.float64).sum(axis=0)
    left, right = left.astype(np.float64), right.astype(np.float64)
    overlaps = (left @ left.T) * (right @ right.T)
    best: NDArray[np.float64] = np.linalg.lstsq(overlaps, shares)[0]
    return best


def _best_scale(values: Array, decoded: Array) -> NDArray[np.float64]:
    square = np.square(decoded, dtype=np.float64).sum()
    share = np.multiply(values, decoded, dtype=np.float64).sum()
    return np.array([share / square if square > 0 else 0.0])


def _multiply(left: Array, right: Array, matrix: Array) -> None:
    """Write the sum of the products of `left`, (rank, rows), and `right`, (rank, columns).

    Each product and each sum is rounded by itself, in the order of the columns. A library's matrix
    product adds in an order of its own on each machine.
    """
    at_once = max(1, _AT_ONCE // matrix.shape[1])
    product = np.empty((min(at_once, len(matrix)), matrix.shape[1]), np.float32)
    for first in range(0, len(matrix), at_once):
        some = matrix[first : first + at_once]
        beside = left[:, first : first + at_once, None]
        np.multiply(beside[0], right[0], out=some)
        for column in range(1, len(right)):
            some += np.multiply(beside[column], right[column], out=product[: len(some)])

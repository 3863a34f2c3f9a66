"""Numbers that must arrive exactly, in arrays of float32.

A double travels as four words of 16 bits; a whole number of any size as digits of 20 bits:

    3,000,000,000,123 = 771,707 + 1,048,576 * (763,548 + 1,048,576 * 2)  ->  [771707, 763548, 2]

A float32 holds each of them exactly, and digits may be added: the sum over a million clients, digit
by digit, is the number that has the sum of theirs. A negative number has negative digits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmqtt.weights import Array

WORDS = 4
"""Of a double."""

_DIGIT_BITS = 20
DIGIT_MAX = 2**_DIGIT_BITS - 1


def words(numbers: Sequence[float]) -> Array:
    """Of n doubles, shape (n, 4)."""
    doubles = np.asarray(numbers, "<f8").reshape(-1, 1)
    return doubles.view("<u2").astype(np.float32)


def numbers(words_: Array) -> list[float]:
    """The doubles whose words these are, shape (n, 4).

    Raises ValueError on what are no words, and on doubles that are not finite.
    """
    if words_.ndim != 2 or words_.shape[1] != WORDS or not _are_whole(words_, 0, 2**16 - 1):
        raise ValueError("numbers that are not written as words of 16 bits")
    doubles = np.ascontiguousarray(words_.astype("<u2")).view("<f8").ravel()
    if not np.isfinite(doubles).all():
        raise ValueError("numbers that are not finite")
    return [float(one) for one in doubles]


def digits(whole: Sequence[int], places: int) -> Array:
    """Of n whole numbers, shape (n, places), the lowest first. They must have no more places."""
    rows = np.zeros((len(whole), places), np.float32)
    for row, number in zip(rows, whole, strict=True):
        rest, sign = abs(number), 1 if number >= 0 else -1
        for place in range(places):
            row[place] = sign * (rest & DIGIT_MAX)
            rest >>= _DIGIT_BITS
        assert rest == 0, f"{number} has more than {places} places"
    return rows


def whole_numbers(digits_: NDArray[Any]) -> list[int]:
    """Those whose digits, or sums of digits, these are: shape (n, places), of whole numbers.

    With up to three places they must be below 2^63.
    """
    places = digits_.shape[1]
    if places <= 3:
        factors = 1 << (_DIGIT_BITS * np.arange(places, dtype=np.int64))
        # What overflows on the way is made up for: the whole is below 2^63.
        return [int(one) for one in digits_.astype(np.int64) @ factors]
    return [
        sum(int(digit) << (_DIGIT_BITS * place) for place, digit in enumerate(row))
        for row in digits_.tolist()
    ]


def are_digits(values: Array) -> bool:
    """Whether each is a digit, of whatever sign."""
    return _are_whole(values, -DIGIT_MAX, DIGIT_MAX)


def _are_whole(values: Array, lowest: int, highest: int) -> bool:
    # NaN, too, is none.
    return bool(((values >= lowest) & (values <= highest) & (np.rint(values) == values)).all())

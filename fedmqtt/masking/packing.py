"""Words of few bits, packed; and payloads: a body of packed words, and a tail of whole ones.

32 words of b bits become b words of 32. They are not those that follow one another but those of a
column, so that each step of the work is one on long rows (a sixth of the time at 25 bits):

    131,072 words at a time, or what is left, filled up with zeros:   32 rows of n words
    packed, each column for itself, row 0 in the lowest bits:          b rows of n words

Words are little-endian, here and in the tail.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_ROWS = 32
"""As many as a word has bits: then whole words come out, whatever the width."""
_COLUMNS = 4096  # two rows stay in the first-level cache
_WORD_BYTES = 4


def packed_bytes(count: int, bits: int) -> int:
    """Of so many words, of so many bits each: up to 31 words more than that comes to."""
    return _WORD_BYTES * bits * -(-count // _ROWS)


def pack(words: Words, bits: int) -> bytes:
    """The lowest `bits` of each word, 1 to 32; what is above them is left out."""
    packed = np.zeros(packed_bytes(words.size, bits) // _WORD_BYTES, "<u4")
    lowest = np.uint32((1 << bits) - 1)
    for chunk, rows in _chunks(words.size, bits, packed):
        wide = np.zeros((_ROWS, rows.shape[1]), np.uint32)
        there = words[chunk]
        np.bitwise_and(there, lowest, out=wide.reshape(-1)[: there.size])
        shifted = np.empty(rows.shape[1], np.uint32)
        for number, row in enumerate(wide):
            at, shift = divmod(number * bits, 32)
            rows[at] |= np.left_shift(row, np.uint32(shift), out=shifted)
            if shift + bits > 32:
                np.right_shift(row, np.uint32(32 - shift), out=rows[at + 1])
    return packed.tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int) -> Words:
    """The words, shape (count,). Raises ValueError where these are not so many bytes."""
    _check(len(data), packed_bytes(count, bits))
    words = np.empty(count, np.uint32)
    _unpack(data, bits, words)
    return words


def payload_bytes(body: int, tail: int, bits: int) -> int:
    return packed_bytes(body, bits) + _WORD_BYTES * tail


def to_payload(words: Words, body: int, bits: int) -> bytes:
    """The first `body` words packed, the others whole."""
    return pack(words[:body], bits) + words[body:].astype("<u4").tobytes()


def from_payload(payload: bytes | memoryview, body: int, tail: int, bits: int) -> Words:
    """The words of a payload, shape (body + tail,). Raises ValueError on a wrong length."""
    _check(len(payload), payload_bytes(body, tail, bits))
    cut = packed_bytes(body, bits)
    words = np.empty(body + tail, np.uint32)
    _unpack(payload[:cut], bits, words[:body])
    words[body:] = np.frombuffer(payload[cut:], "<u4")
    return words


def from_payloads(
    data: bytes | memoryview, number: int, body: int, tail: int, bits: int
) -> list[Words]:
    """Of `number` payloads, one behind the other. Raises ValueError on a wrong length."""
    each = payload_bytes(body, tail, bits)
    _check(len(data), number * each)
    view = memoryview(data)
    return [
        from_payload(view[at * each : (at + 1) * each], body, tail, bits) for at in range(number)
    ]


def _unpack(data: bytes | memoryview, bits: int, words: Words) -> None:
    """Fills `words`."""
    packed = np.frombuffer(data, "<u4")
    lowest = np.uint32((1 << bits) - 1)
    for chunk, rows in _chunks(words.size, bits, packed):
        wide = np.empty((_ROWS, rows.shape[1]), np.uint32)
        shifted = np.empty(rows.shape[1], np.uint32)
        for number, row in enumerate(wide):
            at, shift = divmod(number * bits, 32)
            np.right_shift(rows[at], np.uint32(shift), out=row)
            if shift + bits > 32:
                row |= np.left_shift(rows[at + 1], np.uint32(32 - shift), out=shifted)
        wide &= lowest
        there = words[chunk]
        there[:] = wide.reshape(-1)[: there.size]


def _chunks(count: int, bits: int, packed: Words) -> Iterator[tuple[slice, Words]]:
    """Which of `count` words, and a view of what they are packed in, shape (bits, columns)."""
    at = 0
    for start in range(0, count, _ROWS * _COLUMNS):
        chunk = slice(start, min(start + _ROWS * _COLUMNS, count))
        columns = -(-(chunk.stop - start) // _ROWS)
        yield chunk, packed[at : at + bits * columns].reshape(bits, columns)
        at += bits * columns


def _check(size: int, wanted: int) -> None:
    if size != wanted:
        raise ValueError(f"{size} bytes, not {wanted}")

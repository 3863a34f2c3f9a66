"""Words of few bits, one behind the other: bit i of the bytes is bit i % 8 of byte i // 8.

A payload is a body of packed words, and a tail of whole ones: 32 bits each, little-endian.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def packed_bytes(count: int, bits: int) -> int:
    """Of so many words, of so many bits each."""
    return (count * bits + 7) // 8


def pack(words: Words, bits: int) -> bytes:
    """The lowest `bits` of each word, 1 to 32; what is above them is left out."""
    each = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").reshape(-1, 32)
    return np.packbits(each[:, :bits], bitorder="little").tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int) -> Words:
    """The words, shape (count,). Raises ValueError where these are not so many bytes."""
    if len(data) != packed_bytes(count, bits):
        raise ValueError(f"{len(data)} bytes, not {packed_bytes(count, bits)}")
    each = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little")
    whole = np.zeros((count, 32), np.uint8)
    whole[:, :bits] = each.reshape(count, bits)
    return np.packbits(whole, axis=1, bitorder="little").view("<u4").reshape(-1)


def payload_bytes(body: int, tail: int, bits: int) -> int:
    return packed_bytes(body, bits) + 4 * tail


def to_payload(words: Words, body: int, bits: int) -> bytes:
    """The first `body` words packed, the others whole."""
    return pack(words[:body], bits) + words[body:].astype("<u4").tobytes()


def from_payload(payload: bytes | memoryview, body: int, tail: int, bits: int) -> Words:
    """The words of a payload, shape (body + tail,). Raises ValueError on a wrong length."""
    if len(payload) != payload_bytes(body, tail, bits):
        raise ValueError(f"{len(payload)} bytes, not {payload_bytes(body, tail, bits)}")
    cut = packed_bytes(body, bits)
    whole = np.frombuffer(payload[cut:], "<u4").astype(np.uint32, copy=False)
    return np.concatenate([unpack(payload[:cut], body, bits), whole])


def to_payloads(sums: Iterable[Words], body: int, bits: int) -> bytes:
    """One payload behind the other, as in `Opened`."""
    return b"".join(to_payload(words, body, bits) for words in sums)


def from_payloads(
    data: bytes | memoryview, number: int, body: int, tail: int, bits: int
) -> list[Words]:
    """Of `number` payloads, one behind the other. Raises ValueError on a wrong length."""
    each = payload_bytes(body, tail, bits)
    if len(data) != number * each:
        raise ValueError(f"{len(data)} bytes, not {number} times {each}")
    view = memoryview(data)
    return [
        from_payload(view[at * each : (at + 1) * each], body, tail, bits) for at in range(number)
    ]

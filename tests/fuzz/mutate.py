"""Valid bytes, hurt: flipped, cut, spliced, with lengths that grow and with what is known to hurt.

Random bytes are refused at the first of them. What comes deep into a decoder is nearly right.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from hypothesis import strategies as st

LONG = 2000
"""Repeats in a nest: more than Python and all of our decoders go down."""

FRAGMENTS = (
    # Lengths of 4 GiB, or as many as fit: lists, maps, text, bytes, extensions of MessagePack.
    *(bytes([kind]) + b"\xff" * 4 for kind in (0xDD, 0xDF, 0xDB, 0xC6, 0xC9)),
    *(bytes([kind]) + b"\xff" * 2 for kind in (0xDC, 0xDE, 0xDA, 0xC5, 0xC8)),
    # Nests.
    b"\x91" * LONG,
    b"\x81\xa1a" * LONG,
    b"\xdd\x00\x0f\xff\xff" * 300,
    b"[" * LONG,
    b'{"a":' * LONG,
    # Numbers that are none, or too large.
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xca\x7f\xc0\x00\x00",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\x00" * 7,
    b"\x00\x00\xc0\x7f",
    b"\x00\x00\x80\x7f",
    b"NaN",
    b"nan",
    b"-inf",
    b"1e999",
    b"-1e308",
    b"1e308",
    b"9" * 5000,
    b"-1",
    b"18446744073709551616",
    # Text that means something to a broker, a file system, a terminal or a reader.
    b"+/#",
    b"/",
    b"../../",
    b"\x00",
    b"\n",
    b"\x1b[2J",
    "\u202eevil".encode(),
    "\ufeff".encode(),
    "a\u0301\u0301\u0301".encode(),
    "\u0430nn".encode(),
    "\uff0fann".encode(),
    "\u0667".encode(),
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xc3",
    b"\xf4\x90\x80\x80",
    b"%00",
    b"'''",
    b'"""',
    b"[[a]]\n",
    b"a" * 5000,
)

Hurt = Callable[[bytes, bytes, int, int, int], bytes]


def flip(data: bytes, _other: bytes, at: int, value: int, _more: int) -> bytes:
    """Another byte in the place of one."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ (1 + value % 255)]) + data[at + 1 :]


def cut(data: bytes, _other: bytes, at: int, _value: int, _more: int) -> bytes:
    """The beginning alone."""
    return data[: at % len(data)]


def lose(data: bytes, _other: bytes, at: int, value: int, _more: int) -> bytes:
    """Without a piece in the middle."""
    at %= len(data)
    return data[:at] + data[at + 1 + value % 16 :]


def repeat(data: bytes, _other: bytes, at: int, value: int, more: int) -> bytes:
    """A piece of it once more, there or elsewhere: a key that comes twice."""
    at %= len(data)
    piece = data[at : at + 1 + value % 40]
    to = more % (len(data) + 1)
    return data[:to] + piece + data[to:]


def splice(data: bytes, other: bytes, at: int, value: int, _more: int) -> bytes:
    """The beginning of this, and the end of another."""
    return data[: at % len(data)] + other[value % (len(other) + 1) :]


def put(data: bytes, _other: bytes, at: int, value: int, more: int) -> bytes:
    """One of the fragments, between two bytes or over some."""
    at %= len(data) + 1
    fragment = FRAGMENTS[value % len(FRAGMENTS)]
    return data[:at] + fragment + data[at + (len(fragment) if more % 2 else 0) :]


def grow(data: bytes, _other: bytes, at: int, value: int, more: int) -> bytes:
    """A number of 1 to 8 bytes becomes a small, a large or the largest one."""
    at %= len(data)
    width = (1, 2, 4, 8)[value % 4]
    order: Literal["little", "big"] = "little" if value & 4 else "big"
    largest = 2 ** (8 * width) - 1
    numbers = (0, 1, largest, largest // 2, largest // 2 + 1, len(data) & largest, more & largest)
    return data[:at] + numbers[more % 7].to_bytes(width, order) + data[at + width :]


HURTS: tuple[Hurt, ...] = (flip, cut, lose, repeat, splice, put, grow)

_PLACES = st.integers(0, 2**16)


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of these after one to four of `HURTS`."""
    data, other = draw(st.sampled_from(seeds)), draw(st.sampled_from(seeds))
    for hurt in draw(st.lists(st.sampled_from(HURTS), min_size=1, max_size=4)):
        if not data:
            break
        data = hurt(data, other, draw(_PLACES), draw(_PLACES), draw(_PLACES))
    return data

"""The MessagePack header that a file begins with: read where it lies, with what follows left alone.

Bytes are passed over first and decoded after, straight to the type that they must have. So what is
no header makes no objects, however deep or long its lists say that they are.
"""

from typing import TypeVar

import msgpack
import msgspec

from fedmqtt import unreadable

_T = TypeVar("_T")

_BYTES_USUAL = 64 * 1024
_FIRST_BYTES = 4096


def read(data: memoryview, kind: type[_T], bytes_max: int) -> tuple[_T, int]:
    """The header, and how many bytes it has: `bytes_max` at most. Raises ValueError."""
    try:
        end = _end(data, bytes_max)
        return msgspec.msgpack.decode(data[:end], type=kind), end
    except (msgpack.UnpackException, *unreadable.MESSAGE) as bad:
        raise ValueError(str(bad) or type(bad).__name__) from bad


def _end(data: memoryview, bytes_max: int) -> int:
    # What is fed is copied, and behind a short header may lie gigabytes.
    for length in sorted({min(_BYTES_USUAL, bytes_max), bytes_max}):
        # Its own choice for a first buffer is a megabyte.
        unpacker = msgpack.Unpacker(
            max_buffer_size=bytes_max, read_size=min(_FIRST_BYTES, bytes_max)
        )
        unpacker.feed(data[:length])
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            continue
        end: int = unpacker.tell()
        return end
    raise ValueError(f"it does not end within {min(len(data), bytes_max)} bytes")

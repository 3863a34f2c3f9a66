"""The file that makes one published model of the one before it, in a codec's few bytes.

    delta file:  MessagePack header {format, codec, base, number, scale, size_bytes}
                 then the codec's bytes

The coordinator and its clients add what is decoded with the same float32 additions, so that all
hold the same numbers, and one digest tells whether they do. The codec's chance comes from the
base's digest and the number of the model that is made: after a model in which nothing was new, the
same numbers must not be drawn again.

What is decoded is multiplied by the scale that brings it nearest to the change. So it is never
further from it than nothing is, whatever the codec: what error feedback needs to shrink what was
lost (a contractive compressor; Richtarik et al., "EF21", NeurIPS 2021). `eden` alone,
right on average, would lose 0.57 of a change's square; scaled it loses 0.36.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import msgpack
import msgspec
import numpy as np
from msgspec import Meta

from fedmqtt import codec_chain, codec_chance
from fedmqtt.codec_chain import Chain
from fedmqtt.codec_chance import Chances
from fedmqtt.messages import DeltaRef, Name, Sha256
from fedmqtt.settings import SettingsError
from fedmqtt.topics import Digest
from fedmqtt.weights import Array, Buffer, Shapes

FORMAT = "fedmqtt-delta-1"
SCALE_MAX = 4.0
_SCALE_BITS = 6
"""Of its mantissa: the last digits of a sum differ from machine to machine."""
_HEADER_BYTES_MAX = 1024


class DeltaError(ValueError):
    """Bytes that are no delta of such a model; says why."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta file, and what offers say of it."""

    ref: DeltaRef
    file: bytes


class _Header(msgspec.Struct, frozen=True):
    format: str
    codec: Name
    base: Sha256
    number: Annotated[int, Meta(ge=0, le=2**53)]
    scale: Annotated[float, Meta(ge=0, le=SCALE_MAX)]
    size_bytes: Annotated[int, Meta(ge=0, le=2**40)]

    @property
    def chances(self) -> Chances:
        return codec_chance.of_delta(self.base, self.number)


def write(
    chain: Chain, base: Digest, number: int, old: Array, new: Array, shapes: Shapes = ()
) -> tuple[bytes, Array]:
    """The delta file that leads from `old`, float32 of shape (n,), with the digest `base`, towards
    `new`; and the numbers that it makes, those of the model with this number. `shapes`: of the
    model's tensors.

    Raises ValueError on numbers that the codec has no bytes for.
    """
    change, chances = new - old, codec_chance.of_delta(base, number)
    data = bytes(chain.encode(change, chances, shapes))
    decoded = chain.decode(data, change.size, chances, shapes)
    scale = _best_scale(change, decoded)
    header = _Header(FORMAT, chain.text, base, number, scale, len(data))
    return msgspec.msgpack.encode(header) + data, _moved(old, decoded, scale)


def apply(numbers: Array, file: Buffer, shapes: Shapes = ()) -> Array:
    """The next model's numbers, shape (n,), of those of the one before it. Raises DeltaError.

    Takes no more memory than ten times the `numbers`, whatever the file says.
    """
    header, start = _read_header(file)
    data = memoryview(file)[start:]
    if len(data) != header.size_bytes:
        raise DeltaError(f"{len(data)} bytes of a delta where {header.size_bytes} belong")
    try:
        chain = codec_chain.read(header.codec)
        change = chain.decode(data, numbers.size, header.chances, shapes)
    except (ValueError, SettingsError) as bad:
        raise DeltaError(f"no delta of this model: {bad}") from bad
    return _moved(numbers, change, header.scale)


def file_bytes(beginning: Buffer) -> int:
    """How long the delta file is that begins like this. Raises DeltaError."""
    header, start = _read_header(beginning)
    return start + header.size_bytes


def _best_scale(change: Array, decoded: Array) -> float:
    """The c that makes |change - c decoded| least, in few bits."""
    square = float(np.square(decoded, dtype=np.float64).sum())
    if square == 0:
        return 1.0
    best = float(np.multiply(change, decoded, dtype=np.float64).sum()) / square
    mantissa, exponent = math.frexp(min(max(best, 0.0), SCALE_MAX))
    return math.ldexp(round(math.ldexp(mantissa, _SCALE_BITS)), exponent - _SCALE_BITS)


def _moved(numbers: Array, change: Array, scale: float) -> Array:
    # What overflows is seen by who looks at the outcome.
    with np.errstate(all="ignore"):
        return numbers + change * np.float32(scale)


def _read_header(file: Buffer) -> tuple[_Header, int]:
    unpacker = msgpack.Unpacker(max_buffer_size=_HEADER_BYTES_MAX, strict_map_key=True)
    try:
        # What is fed is copied.
        unpacker.feed(memoryview(file)[:_HEADER_BYTES_MAX])
        header = msgspec.convert(unpacker.unpack(), _Header)
    except (msgpack.UnpackException, ValueError, msgspec.ValidationError) as bad:
        raise DeltaError(f"no delta header: {bad or type(bad).__name__}") from bad
    if header.format != FORMAT:
        raise DeltaError(f"format {header.format!r}; this program reads {FORMAT!r}")
    return header, unpacker.tell()

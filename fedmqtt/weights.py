"""Named float32 arrays, and the file that carries them.

    model file:  MessagePack header {format, tensors: [[name, shape], ...]}  then the raw numbers:
                 every tensor in the header's order, C order, little-endian float32, no padding

The header is read as a stream, so the numbers behind it are used where they lie, without a copy.
Between programs weights travel flat; only tasks and checkpoints see names and shapes. Both sides
compare a fingerprint of names, shapes and dtype, so a flat vector cannot be taken for another's.
"""

import hashlib
import math
import mmap
from dataclasses import dataclass
from typing import Annotated

import msgpack
import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from fedmqtt import file_header
from fedmqtt.topics import Digest

Array = NDArray[np.float32]
Buffer = bytes | bytearray | memoryview | mmap.mmap
Weights = dict[str, Array]
"""Parameter name to float32 array."""
Shapes = tuple[tuple[int, ...], ...]
"""Of tensors that lie one after the other."""

FORMAT = "fedmqtt-weights-1"
_HEADER_BYTES_MAX = 4 * 1024 * 1024
_TENSORS_MAX = 100_000
"""Each is some hundred bytes of memory, and may be three in a file."""
_WIRE_FLOAT = np.dtype("<f4")


class WeightsError(ValueError):
    """Bytes or arrays that are not the weights they should be; says which and why."""


# Bounded here, since the product of half a million large lengths is hours of work.
_Shape = Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=32)]


class _Header(msgspec.Struct, frozen=True):
    format: str
    tensors: Annotated[list[tuple[str, _Shape]], Meta(max_length=_TENSORS_MAX)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes of a model's tensors, in the order in which they are laid out."""

    tensors: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """How many numbers a flat vector of this layout has."""
        return sum(math.prod(shape) for _, shape in self.tensors)

    @property
    def shapes(self) -> Shapes:
        return tuple(shape for _, shape in self.tensors)

    @property
    def fingerprint(self) -> str:
        """Short hash of names, shapes and dtype, in order."""
        text = ";".join(f"{name}:{'x'.join(map(str, shape))}:f4" for name, shape in self.tensors)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def flatten(self, weights: Weights) -> Array:
        """One vector, shape (size,), in this layout's order whatever the order in `weights`.

        Raises WeightsError when names or shapes differ.
        """
        if difference := _difference(self, layout_of(weights)):
            raise WeightsError(f"tensors differ: {difference}")
        if not weights:
            return np.empty(0, np.float32)
        flat = [weights[name].ravel() for name, _ in self.tensors]
        # A task may have computed in double precision; what is made of the bits may not be.
        return np.concatenate(flat, dtype=np.float32, casting="same_kind")

    def unflatten(self, flat: Array) -> Weights:
        """Named views into `flat`, which has shape (size,)."""
        weights: Weights = {}
        start = 0
        for name, shape in self.tensors:
            stop = start + math.prod(shape)
            weights[name] = flat[start:stop].reshape(shape)
            start = stop
        return weights


def layout_of(weights: Weights) -> Layout:
    return Layout(tuple((name, array.shape) for name, array in weights.items()))


def digest(data: Buffer) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def write(layout: Layout, flat: Array) -> bytes:
    """The model file of a flat vector."""
    header = {"format": FORMAT, "tensors": [[name, list(s)] for name, s in layout.tensors]}
    numbers = flat.astype(_WIRE_FLOAT, copy=False)
    return b"".join((msgpack.packb(header), numbers.data))


def read(data: Buffer) -> tuple[Layout, Array]:
    """Layout and a read-only view of the numbers in a model file.

    Raises WeightsError on bytes that are not one, before anything of the claimed size is made.
    """
    header, start = _read_header(data)
    layout = _layout(header)
    if len({name for name, _ in layout.tensors}) != len(layout.tensors):
        raise WeightsError("a tensor is named twice")
    expected = layout.size * _WIRE_FLOAT.itemsize
    if len(data) - start != expected:
        raise WeightsError(f"{len(data) - start} bytes of numbers where {expected} belong")
    flat = np.frombuffer(data, _WIRE_FLOAT, offset=start).astype(np.float32, copy=False)
    flat.flags.writeable = False
    return layout, flat


def file_bytes(beginning: Buffer) -> int:
    """How long the model file is that begins like this. Raises WeightsError."""
    header, start = _read_header(beginning)
    return start + _layout(header).size * _WIRE_FLOAT.itemsize


def _layout(header: _Header) -> Layout:
    return Layout(tuple((name, tuple(shape)) for name, shape in header.tensors))


def _read_header(data: Buffer) -> tuple[_Header, int]:
    try:
        header, end = file_header.read(memoryview(data), _Header, _HEADER_BYTES_MAX)
    except ValueError as bad:
        raise WeightsError(f"no weights header: {bad}") from bad
    if header.format != FORMAT:
        raise WeightsError(f"format {header.format!r}; this program reads {FORMAT!r}")
    return header, end


def _difference(wanted: Layout, found: Layout) -> str:
    want, have = dict(wanted.tensors), dict(found.tensors)
    if want.keys() != have.keys():
        missing, extra = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
        return f"missing {missing[:3]}, unexpected {extra[:3]}"
    for name, shape in have.items():
        if shape != want[name]:
            return f"{name} has shape {shape}, not {want[name]}"
    return ""

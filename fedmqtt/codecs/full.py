"""Full precision: the float32 numbers as they are, little-endian. Exact; 4 bytes a number."""

import numpy as np

from fedmqtt.weights import Array

_WIRE_FLOAT = np.dtype("<f4")


def encode(values: Array) -> memoryview:
    """A view of `values` where the machine is little-endian, a copy elsewhere."""
    return values.astype(_WIRE_FLOAT, copy=False).data.cast("B")


def decode(data: bytes | memoryview, size: int) -> Array:
    """A read-only view into `data`, shape (size,). Raises ValueError on another length."""
    if len(data) != size * _WIRE_FLOAT.itemsize:
        raise ValueError(f"{len(data)} bytes where {size * _WIRE_FLOAT.itemsize} belong")
    return np.frombuffer(data, _WIRE_FLOAT).astype(np.float32, copy=False)

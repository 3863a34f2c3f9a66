"""How a flat vector of changes becomes bytes: a chain of stages, one file per stage.

    part(share=0.25)    +    eden      +     zstd
    Subset: fewer numbers    Numbers: bytes  Bytes: fewer bytes
    or Largest, or Factors

Each file defines a `Stage`, a frozen struct of one of the four kinds below; its fields are the
stage's settings. `codec_chain.py` reads a chain and runs it. It has checked what a stage is given:
values are finite and at most `LARGEST`, data is as long as `size_bytes` says.

Defaults of settings are part of the wire: a chain is written without them.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmqtt.codec_chance import Chance
from fedmqtt.weights import Array, Shapes

LARGEST = 1e9
"""No change of a parameter may be larger: no federation takes it, and squares stay finite."""


class Subset(Struct, frozen=True, forbid_unknown_fields=True):
    """Chooses which numbers are sent, the same for all clients of a round."""

    @abstractmethod
    def kept(self, size: int) -> int:
        """How many of `size` numbers."""

    @abstractmethod
    def take(self, values: Array, shared: Chance) -> Array:
        """The numbers to send, shape (kept,), from float32 values of shape (n,)."""

    @abstractmethod
    def places(self, size: int, shared: Chance) -> NDArray[np.int64]:
        """Where among `size` numbers those belong that were sent: growing, shape (kept,)."""


class Largest(Struct, frozen=True, forbid_unknown_fields=True):
    """Chooses which numbers are sent by their size, each client others. The client remembers what
    it left out, and adds it to its next change."""

    @abstractmethod
    def kept(self, size: int) -> int:
        """How many of `size` numbers."""

    @abstractmethod
    def choose(self, values: Array) -> NDArray[np.int64]:
        """Where the numbers lie that are sent, growing, shape (kept,)."""

    @abstractmethod
    def size_bytes(self, size: int) -> int:
        """How many bytes tell their places among `size` numbers."""

    @abstractmethod
    def write(self, places: NDArray[np.int64], size: int) -> bytes:
        """These places, as that many bytes."""

    @abstractmethod
    def read(self, data: memoryview, size: int) -> NDArray[np.int64]:
        """The places, growing, none twice, all below `size`. Raises ValueError on other bytes."""


class Factors(Struct, frozen=True, forbid_unknown_fields=True):
    """Makes fewer numbers of which matrices can be made again, nearly. The client remembers what
    they leave out, and adds it to its next change. `shapes` are those of the tensors of which the
    vector is made, `size` numbers in all; empty: it is one."""

    @abstractmethod
    def kept(self, size: int, shapes: Shapes) -> int:
        """How many numbers are sent."""

    @abstractmethod
    def size_bytes(self, size: int, shapes: Shapes) -> int:
        """How many bytes tell their scales."""

    @abstractmethod
    def factor(self, values: Array, shapes: Shapes, shared: Chance) -> Array:
        """The numbers to send, shape (kept,), about 1 on average."""

    @abstractmethod
    def scale(self, values: Array, factors: Array, shapes: Shapes) -> bytes:
        """The scales that bring what is made of `factors`, as they arrive, nearest to `values`:
        it is then never further from them than nothing is."""

    @abstractmethod
    def multiply(self, scales: memoryview, factors: Array, size: int, shapes: Shapes) -> Array:
        """float32, shape (size,), the same bits on every machine. Raises ValueError on bytes that
        are no scales."""


class Numbers(Struct, frozen=True, forbid_unknown_fields=True):
    """Makes bytes of numbers: how many is known beforehand."""

    is_unbiased: ClassVar[bool] = True
    """Whether what comes back is right on average, over a client's chance."""

    @abstractmethod
    def size_bytes(self, size: int) -> int:
        """How many bytes `size` numbers become."""

    @abstractmethod
    def encode(self, values: Array, own: Chance) -> bytes | memoryview:
        """`values`: float32, shape (n,). Raises ValueError on a value it has no bytes for."""

    @abstractmethod
    def decode(self, data: memoryview, size: int, own: Chance) -> Array:
        """float32, shape (size,). Raises ValueError on bytes that no `encode` makes."""

    @abstractmethod
    def error_max(self, values: Array) -> float:
        """At most how far what comes back lies from `values`, as Euclidean distance. Certain."""

    @abstractmethod
    def error_square(self, values: Array) -> float:
        """At most how large the square of that distance is on average."""


class Bytes(Struct, frozen=True, forbid_unknown_fields=True):
    """Makes fewer bytes of bytes, exactly."""

    @abstractmethod
    def squeeze(self, data: bytes | memoryview) -> bytes:
        """Fewer bytes, as a rule."""

    @abstractmethod
    def expand(self, data: memoryview, size_bytes: int) -> bytes:
        """The `size_bytes` bytes that were squeezed. Raises ValueError on other bytes, and never
        makes more of them."""

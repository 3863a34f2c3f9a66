"""How a flat vector of changes becomes bytes: a chain of stages, one file per stage.

    part(share=0.25)    +    eden      +     zstd
    Subset: fewer numbers    Numbers: bytes  Bytes: fewer bytes

Each file defines a `Stage`, a frozen struct of one of the three kinds below; its fields are the
stage's settings. `codec_chain.py` reads a chain and runs it. It has checked what a stage is given:
values are finite and at most `LARGEST`, data is as long as `size_bytes` says.

Defaults of settings are part of the wire: a chain is written without them.
"""

from abc import abstractmethod
from typing import ClassVar

from msgspec import Struct

from fedmqtt.codec_chance import Chance
from fedmqtt.weights import Array

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
    def put(self, values: Array, size: int, shared: Chance) -> Array:
        """All numbers, float32, shape (size,), from those that were sent."""


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

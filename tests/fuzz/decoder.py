"""What every test of hostile bytes asks of a decoder."""

from collections.abc import Callable
from dataclasses import dataclass


class MadeNothing(Exception):
    """Of these bytes, by a decoder that has no error to refuse them with."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """One place where bytes from elsewhere become values."""

    name: str
    read: Callable[[bytes], None]
    """Decodes. Raises one of `refuses` or `MadeNothing`, or has seen that what came out means the
    same once it is written and read again. Anything else that it raises is a finding."""
    seeds: Callable[[], list[bytes]]
    """Valid bytes, the same each time: all kinds of them, each as small as can be."""
    refuses: tuple[type[Exception], ...] = ()
    """None: it is to take anything, and to make nothing of what is no good; then `read` tells."""
    factor: int = 64
    """Bytes of memory per byte that came in, at most, ..."""
    beside_bytes: int = 512 * 1024
    """... and so many beside these."""
    is_slow: bool = False
    """It takes milliseconds: it is tried less often."""

    def takes(self, data: bytes) -> bool:
        """Whether it makes something of these. Raises what is a finding."""
        refusals: tuple[type[Exception], ...] = (MadeNothing, *self.refuses)
        try:
            self.read(data)
        except refusals:
            return False
        return True

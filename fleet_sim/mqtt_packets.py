"""Where one MQTT packet ends in a stream of bytes, and the next begins.

Each begins with a byte whose upper half is its kind, and its remaining length in one to four bytes
of seven bits, the lowest first (MQTT 5, 2.1.1 and 1.5.5). The rest is not looked at.
"""

from collections.abc import Iterator

PUBLISH = 3
_LENGTH_BITS_MAX = 28


class PacketCutter:
    """Of one direction of one connection. What is not MQTT is cut somewhere."""

    __slots__ = ("_bits", "_is_in_head", "_left")

    def __init__(self) -> None:
        self._is_in_head = False
        self._bits = 0
        """Of the remaining length, so many have been read."""
        self._left = 0
        """Bytes of the packet that are still to come; in its head, as far as that tells."""

    def cut(self, data: bytes) -> Iterator[tuple[bytes, int | None]]:
        """Pieces of at most one packet each, in order, together `data`.

        With the packet's kind where a piece begins one; None where it goes on with one.
        """
        start = 0
        while start < len(data):
            at, kind = start, None
            if not self._is_in_head and self._left == 0:
                kind = data[start] >> 4
                self._is_in_head, self._bits = True, 0
                at += 1
            while self._is_in_head and at < len(data):
                self._read_length(data[at])
                at += 1
            if not self._is_in_head:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
            yield data[start:at], kind
            start = at

    def _read_length(self, byte: int) -> None:
        self._left |= (byte & 0x7F) << self._bits
        self._bits += 7
        self._is_in_head = byte >= 0x80 and self._bits < _LENGTH_BITS_MAX

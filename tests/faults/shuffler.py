"""What a broker may deliver when links break: out of order and more than once. For the proxy.

At QoS 1 a message comes at least once. Order is promised within a topic alone, and when a broker
sends again what was not acknowledged, it begins with the oldest (MQTT 5.0, section 4.6): after a
copy of an old message come copies of all newer ones of its topic. Within these rules everything is
disturbed: topics overtake each other, and each message comes twice, or again after seconds.

Packets (section 2.1): a byte of type and flags, the length of the rest in one to four bytes of
seven bits, least significant first, the rest. A PUBLISH goes on with its topic: two bytes of
length, then the name.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

_PUBLISH = 3
_DUP = 0x08

_NEIGHBOURS_S = 0.05
_AGAIN_S = 0.5
_MUCH_LATER_S = (1.0, 3.0)
_MUCH_LATER_SHARE = 0.2


@dataclass(slots=True)
class _Topic:
    last_due: float = 0.0
    copies_due: list[float] = field(default_factory=list)


class Shuffler:
    """Of one connection. Its chance is its own."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._partial = b""
        self._topics: defaultdict[bytes, _Topic] = defaultdict(_Topic)
        self.copies = 0
        """Made so far."""

    def __call__(self, data: bytes) -> Iterable[tuple[float, bytes]]:
        """Whole packets, each with the moment it is due at."""
        self._partial += data
        now = time.monotonic()
        while (header_size := _header_size(self._partial)) is not None:
            size = header_size + _rest_size(self._partial[1:header_size])
            if len(self._partial) < size:
                return
            packet, self._partial = self._partial[:size], self._partial[size:]
            if packet[0] >> 4 != _PUBLISH:
                yield now, packet
            else:
                yield from self._disturbed(packet, header_size, now)

    def _disturbed(
        self, packet: bytes, header_size: int, now: float
    ) -> Iterable[tuple[float, bytes]]:
        chance, topic = self._chance, self._topics[_topic_of(packet[header_size:])]
        copy = bytes([packet[0] | _DUP]) + packet[1:]
        due = max(now + chance.uniform(0, _NEIGHBOURS_S), topic.last_due)
        topic.last_due = due
        yield due, packet
        # Older ones that come again after this: this one follows each of them.
        copies = [later for later in topic.copies_due if later >= due]
        copies.append(due + chance.uniform(0, _AGAIN_S))
        if chance.random() < _MUCH_LATER_SHARE:
            copies.append(due + chance.uniform(*_MUCH_LATER_S))
        topic.copies_due = copies
        self.copies += len(copies)
        for later in copies:
            yield later, copy


def _header_size(data: bytes) -> int | None:
    """Bytes of type, flags and length; None while they are not all there."""
    for number, byte in enumerate(data[1:5]):
        if not byte & 0x80:
            return 2 + number
    return None


def _rest_size(length: bytes) -> int:
    return sum((byte & 0x7F) << (7 * number) for number, byte in enumerate(length))


def _topic_of(rest: bytes) -> bytes:
    return rest[2 : 2 + int.from_bytes(rest[:2])]

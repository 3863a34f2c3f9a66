"""The broker of the lab: each client has a link of its own, with a width, a length and faults.

    publish ──waits for what goes before it── size / bandwidth ── latency ──▶ broker or client

What a lost link still held never arrives. `Link.loss` is of packets under TCP, so nothing is lost
for good: what is lost takes another round trip.
"""

from collections.abc import Callable
from random import Random

from fedmqtt import messages
from fedmqtt.effects import Seconds
from fedmqtt.messages import Chunk, Offer, Presence, Update
from fedmqtt.topics import Address, ClientId
from fleet_sim.broker import Broker, Message, Receive, Who
from fleet_sim.clock import Clock, stream
from fleet_sim.links import Link
from fleet_sim.weather import Weather

PACKET_BYTES = 60
"""Topic and header around each message."""


class _Line:
    """One client's link, while it is the client's."""

    __slots__ = ("arrived_at", "chance", "cut", "cut_in_s", "link")

    def __init__(self, link: Link, chance: Random, cut: Callable[[], None]) -> None:
        self.link = link
        self.chance = chance
        self.cut = cut
        self.cut_in_s = link.cut_after_s(chance)
        """Seconds of transferring until it breaks."""
        self.arrived_at: dict[bool, Seconds] = {}
        """When the last message up (True) and down arrives: TCP keeps the order."""


class LabBroker(Broker):
    loses_what_is_under_way = True

    def __init__(self, clock: Clock, seed: int) -> None:
        super().__init__(clock, stream(seed, "network"), Weather(counts_down=True, delay_s=0.0))
        self.bytes_up = 0
        self.bytes_down = 0
        """By all clients."""
        self._seed = seed
        self._lines: dict[Who, _Line] = {}
        self._sizes: dict[int, tuple[Message, int]] = {}

    def lay_line(self, client: ClientId, link: Link, cut: Callable[[], None]) -> None:
        """`cut` is called when the link breaks in the middle of a transfer."""
        self._lines[client] = _Line(link, stream(self._seed, "line", client), cut)

    def download_s(self, client: ClientId, size: int, from_s: Seconds, *, asks: bool) -> Seconds:
        """How long a piece of a model takes, with a round trip if it has to be asked for first."""
        line = self._lines[client]
        self.bytes_down += size
        took_s = line.link.down.seconds(size, from_s)
        self._wear(line, took_s)
        if asks:
            took_s += line.link.delay_s(line.chance) + line.link.delay_s(line.chance)
        return took_s + self._lost_s(line)

    def connect(
        self, who: Who, receive: Receive, will: Presence | None = None, *, is_clean: bool = False
    ) -> None:
        if who in self._lines:
            self._lines[who].arrived_at.clear()
        super().connect(who, receive, will, is_clean=is_clean)

    def travel(
        self, who: Who, address: Address, message: Message, not_before: Seconds, *, up: bool
    ) -> tuple[Seconds, tuple[Seconds, ...]]:
        line = self._lines.get(who)
        now = self._clock.now
        if line is None:
            # The coordinator stands beside its broker.
            return max(not_before, now), (max(not_before, now),)
        size = self._size(address, message)
        begins = max(not_before, now)
        width = line.link.up if up else line.link.down
        took_s = width.seconds(size, begins)
        self._wear(line, took_s)
        copies = 1 + (line.chance.random() < line.link.duplicates)
        if up:
            self.bytes_up += copies * size
        else:
            self.bytes_down += copies * size
        arrives = begins + took_s + line.link.delay_s(line.chance) + self._lost_s(line)
        arrives = line.arrived_at[up] = max(arrives, line.arrived_at.get(up, 0.0))
        # The next one waits for the width, not for the length of the link.
        return begins + took_s, (arrives,) * copies

    def _lost_s(self, line: _Line) -> Seconds:
        late_s = 0.0
        while line.link.loss and line.chance.random() < line.link.loss:
            late_s += 2 * line.link.delay_s(line.chance)
        return late_s

    def _wear(self, line: _Line, took_s: Seconds) -> None:
        line.cut_in_s -= took_s
        if line.cut_in_s <= 0:
            breaks_in_s = took_s + line.cut_in_s
            line.cut_in_s = line.link.cut_after_s(line.chance)
            self._clock.after(max(0.0, breaks_in_s), line.cut)

    def _size(self, address: Address, message: Message) -> int:
        match message:
            case None:
                return PACKET_BYTES
            case Update(payload=payload):
                head, _ = messages.encode_pieces(message)
                return PACKET_BYTES + len(head) + payload.nbytes
            case Chunk(data=data):
                return 2 * PACKET_BYTES + data.nbytes
            case Offer() | Presence():
                return PACKET_BYTES + self._size_once(message)
            case _:
                return PACKET_BYTES + len(messages.encode(message))

    def _size_once(self, message: Offer | Presence) -> int:
        # One offer goes to every client; it is measured once.
        known = self._sizes.get(id(message))
        if known is None or known[0] is not message:
            if len(self._sizes) > 1000:
                self._sizes.clear()
            known = self._sizes[id(message)] = (message, len(messages.encode(message)))
        return known[1]

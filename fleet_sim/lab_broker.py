"""The broker of the lab: each client has a link of its own, with a width, a length and faults.

    publish ──waits for what goes before it── size / bandwidth ── latency ──▶ broker or client

What a lost link still held never arrives. `Link.loss` is of packets under TCP, so nothing is lost
for good: what is lost takes another round trip.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random

from fedmqtt import messages, sortition
from fedmqtt.effects import Seconds
from fedmqtt.messages import Offer, Presence, Update
from fedmqtt.topics import Address, ClientId, OfferBoard, PresenceOf
from fleet_sim.broker import Broker, Letter, Message, Receive, Session, Who
from fleet_sim.clock import Clock, stream
from fleet_sim.links import Link
from fleet_sim.weather import Weather

PACKET_BYTES = 60
"""Topic and header around each message."""


class _Line:
    """One client's link, while it is the client's."""

    __slots__ = ("arrived_at", "chance", "connections", "cut", "is_counted", "link", "under_way")

    def __init__(
        self, link: Link, chance: Random, cut: Callable[[], None], is_counted: bool
    ) -> None:
        self.link = link
        self.chance = chance
        self.cut = cut
        self.is_counted = is_counted
        self.connections = 0
        """So far: what would have broken an earlier one is over."""
        self.arrived_at: dict[bool, Seconds] = {}
        """When the last message up (True) and down arrives: TCP keeps the order."""
        self.under_way: dict[bool, deque[tuple[Seconds, Seconds, int]]] = {}
        """Of each direction, what has been counted: (from, for so long, bytes)."""


class LabBroker(Broker):
    loses_what_is_under_way = True

    def __init__(self, clock: Clock, seed: int, latency_s: Seconds = 0.0) -> None:
        """`latency_s`: of the plain links of clients that are asleep."""
        super().__init__(clock, stream(seed, "network"), Weather(counts_down=True, delay_s=0.0))
        self.bytes_up = 0
        self.bytes_down = 0
        """By all clients that are counted."""
        self._seed = seed
        self._latency_s = latency_s
        self._lines: dict[Who, _Line] = {}
        self._sizes: dict[int, tuple[Message, int]] = {}
        self._places: dict[Who, int] = {}
        """In which order clients are told what all are told."""
        self._asleep: dict[ClientId, Callable[[], None]] = {}

    def lay_line(
        self, client: ClientId, link: Link, cut: Callable[[], None], *, is_counted: bool = True
    ) -> None:
        """`cut` is called when the link breaks in the middle of a transfer.

        What it carries is left out of the sums where it is not counted.
        """
        self._lines[client] = _Line(link, stream(self._seed, "line", client), cut, is_counted)
        self._places.setdefault(client, len(self._places))

    def lay_asleep(self, client: ClientId, birth: Presence, wake: Callable[[], None]) -> None:
        """A client that is there, on a plain link, and does nothing until an offer invites it.

        `wake` makes a device of it, which takes up its session by `adopt`.
        """
        self._places[client] = len(self._places)
        self._asleep[client] = wake
        # As in `publish` and `travel`, whose chance decides nothing on such a link.
        size = self._size(PresenceOf(client), birth)
        self.bytes_up += size
        self.bytes_down += size
        letter = Letter(PresenceOf(client), birth, None)
        self._clock.after(self._latency_s, self._arrive, letter, 0)

    def adopt(self, who: ClientId, receive: Receive, will: Presence) -> None:
        """The session of a client that has woken: it has been connected all the time."""
        session = self._sessions[who] = Session(who, receive, online=True, link=1)
        session.will = Letter(PresenceOf(who), will, None)

    def _readers(self, offer: Message) -> Iterable[Session]:
        if isinstance(offer, Offer):
            for client in self._asleep_and_invited(offer):
                if (wake := self._asleep.pop(client, None)) is not None:
                    wake()
        if self._asleep:
            self.bytes_down += len(self._asleep) * self._size(OfferBoard(), offer)
        return sorted(super()._readers(offer), key=lambda one: self._places[one.who])

    def _asleep_and_invited(self, offer: Offer) -> Sequence[ClientId]:
        if offer.sortition is None:
            return (*offer.train, *offer.evaluate)
        asleep, number, rule = list(self._asleep), offer.round, offer.sortition
        trains = sortition.draws(rule.salt, number, "train", asleep)
        evaluates = sortition.draws(rule.salt, number, "evaluate", asleep)
        return [
            client
            for client, one, other in zip(asleep, trains, evaluates, strict=True)
            if one < rule.train or other < rule.evaluate
        ]

    def download_s(self, client: ClientId, size: int, from_s: Seconds, *, asks: bool) -> Seconds:
        """How long a piece of a model takes, with a round trip if it has to be asked for first."""
        line = self._lines[client]
        size += PACKET_BYTES
        took_s = line.link.down.seconds(size, from_s)
        self._count(line, from_s, took_s, size, up=False)
        self._may_break(line, from_s, took_s)
        if asks:
            took_s += line.link.delay_s(line.chance) + line.link.delay_s(line.chance)
        return took_s + line.link.lost_s(line.chance)

    def free_at(self, client: ClientId) -> Seconds:
        """When all that a client has said so far is on its way, and the next can go."""
        return self._sessions[client].up_at

    def connect(
        self, who: Who, receive: Receive, will: Presence | None = None, *, is_clean: bool = False
    ) -> None:
        if who in self._lines:
            self._lines[who].arrived_at.clear()
            self._lines[who].connections += 1
        super().connect(who, receive, will, is_clean=is_clean)

    def disconnect(self, who: Who, *, politely: bool, notices_in_s: Seconds | None = None) -> None:
        """As of MQTT 5, whose wills wait: nothing is said of who is back before it is noticed."""
        session = self._sessions[who]
        if who in self._lines:
            self._uncount(self._lines[who], up=False)
            if not politely:
                self._uncount(self._lines[who], up=True)
        will, session.will = session.will, None
        super().disconnect(who, politely=politely)
        if will is None or politely:
            return
        link, life = session.link, self._life

        def say_will() -> None:
            if session.link == link:
                self._arrive(will, life)

        assert notices_in_s is not None
        self._clock.after(notices_in_s, say_will)

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
        self._may_break(line, begins, took_s)
        copies = 1 + (line.chance.random() < line.link.duplicates)
        self._count(line, begins, took_s, copies * size, up=up)
        arrives = begins + took_s + line.link.delay_s(line.chance) + line.link.lost_s(line.chance)
        arrives = line.arrived_at[up] = max(arrives, line.arrived_at.get(up, 0.0))
        # The next one waits for the width, not for the length of the link.
        return begins + took_s, (arrives,) * copies

    def _count(self, line: _Line, begins: Seconds, took_s: Seconds, size: int, *, up: bool) -> None:
        if not line.is_counted:
            return
        if up:
            self.bytes_up += size
        else:
            self.bytes_down += size
        if took_s > 0:
            under_way = line.under_way.setdefault(up, deque())
            while under_way and sum(under_way[0][:2]) <= self._clock.now:
                under_way.popleft()
            under_way.append((begins, took_s, size))

    def _uncount(self, line: _Line, *, up: bool) -> None:
        """The link is lost: what it has not carried yet it never will."""
        now = self._clock.now
        for begins, took_s, size in line.under_way.pop(up, ()):
            rest = min(max((begins + took_s - now) / took_s, 0.0), 1.0)
            if up:
                self.bytes_up -= round(rest * size)
            else:
                self.bytes_down -= round(rest * size)

    def _may_break(self, line: _Line, begins: Seconds, took_s: Seconds) -> None:
        # Time in transfer until a break is exponential, and so has no memory: each transfer may
        # draw anew whether one falls into it.
        breaks_in_s = line.link.cut_after_s(line.chance)
        if breaks_in_s < took_s:
            self._clock.at(begins + breaks_in_s, self._break, line, line.connections)

    def _break(self, line: _Line, connections: int) -> None:
        if connections == line.connections:
            line.cut()

    def _size(self, address: Address, message: Message) -> int:
        match message:
            case None:
                return PACKET_BYTES
            case Update(payload=payload):
                head, _ = messages.encode_pieces(message)
                return PACKET_BYTES + len(head) + payload.nbytes
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

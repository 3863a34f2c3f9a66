"""The MQTT that both programs rely on, in memory: one broker and the links to it.

    publish ──loss, copies, delay──▶ broker ──retain──▶ subscribers' sessions ──again──▶ receive

What is modelled is what goes wrong: QoS 1 delivers copies, and after a lost link repeats what was
not confirmed, in its old order (1 2 3, then 2 3 again); a session keeps only so many messages for
a client that is away and drops the rest in silence; a will can come after the birth of the next
connection; a retained offer is read long after it was published; what is said on the board is not
given to one of those that are there; the broker itself is killed, and has lost much or all when it
is back.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from fedmqtt.effects import Seconds
from fedmqtt.messages import AnyMessage, Offer, Presence
from fedmqtt.topics import (
    CHANNELS,
    Address,
    ClientId,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    UpdatePart,
)
from fleet_sim.clock import Clock
from fleet_sim.weather import Weather

Message = AnyMessage | None
Receive = Callable[[Address, Message, Seconds | None, bool], None]
"""(address, message, for how long it is still good, whether it lay there before)"""

COORDINATOR = "coordinator"
Who = ClientId | str


_UNCONFIRMED_MAX = 3


@dataclass(slots=True)
class Letter:
    address: Address
    message: Message
    expires_at: Seconds | None
    retained: bool = False
    """It is read because it lay there, not because it is said."""


@dataclass(slots=True)
class Session:
    """What the broker keeps for one subscriber, also while it is away."""

    who: Who
    receive: Receive
    online: bool = False
    link: int = 0
    """Counts connections: what travelled on an old one does not arrive on the new one."""
    broken_link: int = 0
    """The last connection that ended without a goodbye."""
    will: Letter | None = None
    waiting: deque[Letter] = field(default_factory=deque)
    on_the_wire: deque[Letter] = field(default_factory=deque)
    said: deque[Letter] = field(default_factory=lambda: deque(maxlen=_UNCONFIRMED_MAX))
    read: deque[Letter] = field(default_factory=lambda: deque(maxlen=_UNCONFIRMED_MAX))
    """The last of each direction: a lost link may have taken their confirmations with it."""
    down_at: Seconds = 0.0
    up_at: Seconds = 0.0
    """When the last message of each direction arrives: the next one comes after it."""
    is_clean: bool = False
    """It ends with its connection, and nothing waits in it."""


class Broker:
    loses_what_is_under_way = False
    """Whether what a client has said and its link still held is lost when the link breaks."""

    def __init__(self, clock: Clock, chance: random.Random, weather: Weather) -> None:
        self.weather = weather
        self.retained: dict[Address, Letter] = {}
        self.dropped_count = 0
        self.is_up = True
        self.is_calm = False
        """What a lost connection still held does not come after what the next one says."""
        self._life = 0
        """Counts crashes: what was in flight at the last one does not arrive."""
        self._clock = clock
        self._chance = chance
        self._sessions: dict[Who, Session] = {}
        self._coordinator_heard_at: Seconds = 0.0
        """When the last of what it has said arrives."""

    def connect(
        self, who: Who, receive: Receive, will: Presence | None = None, *, is_clean: bool = False
    ) -> None:
        """Resume or begin the session of `who`: what waited for it, then what is retained."""
        assert self.is_up
        if is_clean:
            self._sessions.pop(who, None)
        session = self._sessions.setdefault(who, Session(who, receive))
        session.online, session.link, session.is_clean = True, session.link + 1, is_clean
        session.down_at = session.up_at = self._clock.now
        if who == COORDINATOR and self.is_calm:
            # What the old connection still held has been read before.
            session.up_at = max(session.up_at, self._coordinator_heard_at)
        session.will = Letter(PresenceOf(ClientId(who)), will, None) if will else None
        _drop_copies(session.on_the_wire)
        self._repeat_unconfirmed(session)
        # What was on the wire when the last link broke was confirmed by nobody: it goes first.
        waiting = [*session.on_the_wire, *session.waiting]
        session.on_the_wire.clear()
        session.waiting.clear()
        lies_there = (replace(letter, retained=True) for letter in self._retained_for(who))
        for letter in (*waiting, *lies_there):
            # A broker must not send what has expired while it waited (MQTT 5, 3.3.2.3.3).
            if letter.expires_at is None or self._clock.now < letter.expires_at:
                self._forward(session, letter)

    def disconnect(self, who: Who, *, politely: bool, notices_in_s: Seconds | None = None) -> None:
        """End the link; unless politely, the will follows when the broker notices."""
        session = self._sessions[who]
        session.online = False
        if not politely:
            session.broken_link = session.link
        if session.will is not None and not politely:
            if notices_in_s is None:
                notices_in_s = self._chance.uniform(0, self.weather.will_s)
            self._clock.after(notices_in_s, self._arrive, session.will, self._life)
        session.will = None
        if session.is_clean:
            del self._sessions[who]

    def crash(self, *, keeps: bool) -> None:
        """Lose all links and wills and what is in flight; unless it `keeps` its state on a disk,
        also what is retained, and every session with what waits in it.

        `is_up` is False from now on; whoever was connected has to be told.
        """
        self.is_up = False
        self._life += 1
        for session in self._sessions.values():
            session.online, session.will = False, None
            for letters in (session.on_the_wire, session.said, session.read):
                letters.clear()
        self._sessions = {
            who: session
            for who, session in self._sessions.items()
            if keeps and not session.is_clean
        }
        if not keeps:
            self.retained.clear()

    def publish(self, who: Who, address: Address, message: Message) -> None:
        session = self._sessions[who]
        expires_at = None
        if isinstance(message, Offer) and self.weather.counts_down:
            # As the shell asks of a broker that knows MQTT 5.
            expires_at = self._clock.now + message.closes_in_s
        letter = Letter(address, message, expires_at)
        session.said.append(letter)
        session.up_at, arrivals = self.travel(who, address, message, session.up_at, up=True)
        if who == COORDINATOR:
            self._coordinator_heard_at = session.up_at
        for arrives_at in arrivals:
            if self.loses_what_is_under_way:
                self._clock.at(
                    arrives_at, self._arrive_over, session, session.link, letter, self._life
                )
            else:
                self._clock.at(arrives_at, self._arrive, letter, self._life)

    def _repeat_unconfirmed(self, session: Session) -> None:
        if self._chance.random() >= self.weather.duplication:
            return
        # In their order, but the client may have said something new by then.
        repeats_in_s = self._chance.random() * 2 * self.weather.delay_s
        for letter in session.said:
            self._clock.after(repeats_in_s, self._arrive, letter, self._life)
        session.on_the_wire.extendleft(reversed(session.read))

    def _retained_for(self, who: Who) -> list[Letter]:
        if who == COORDINATOR:
            return [x for x in self.retained.values() if isinstance(x.address, PresenceOf)]
        wanted: list[Address] = [OfferBoard(), PresenceOf(ClientId(who))]
        return [self.retained[address] for address in wanted if address in self.retained]

    def _arrive_over(self, session: Session, link: int, letter: Letter, life: int) -> None:
        if link > session.broken_link:
            self._arrive(letter, life)
        else:
            self.dropped_count += 1

    def _arrive(self, letter: Letter, life: int) -> None:
        if life == self._life:
            self._route(letter)

    def _route(self, letter: Letter) -> None:
        """The broker has it: keep it if it is to be kept, and pass it on."""
        address = letter.address
        if CHANNELS[type(address)].retain:
            if letter.message is None:
                self.retained.pop(address, None)
            else:
                self.retained[address] = letter
        match address:
            case OfferBoard():
                for session in self._readers(letter.message):
                    self._forward(session, letter)
            case UpdatePart():
                self._forward_to(COORDINATOR, letter)
            case Inbox(client):
                self._forward_to(client, letter)
            case PresenceOf(client):
                self._forward_to(COORDINATOR, letter)
                self._forward_to(client, letter)
            case ModelChunk() | _:
                pass

    def _readers(self, _offer: Message) -> Iterable[Session]:
        """Who gets what is said on the offer board. Also who is away: it will find old offers in
        its session."""
        return [one for who, one in self._sessions.items() if who != COORDINATOR]

    def _forward_to(self, who: Who, letter: Letter) -> None:
        session = self._sessions.get(who)
        if session is not None:
            self._forward(session, letter)
        else:
            self.dropped_count += 1

    def _forward(self, session: Session, letter: Letter) -> None:
        if not session.online:
            # Silently: the publisher had its confirmation long ago.
            if len(session.waiting) < self.weather.queue_max:
                session.waiting.append(letter)
            else:
                self.dropped_count += 1
            return
        if isinstance(letter.address, OfferBoard) and self._hides_offer():
            self.dropped_count += 1
            return
        session.down_at, arrivals = self.travel(
            session.who, letter.address, letter.message, session.down_at, up=False
        )
        for arrives_at in arrivals:
            session.on_the_wire.append(letter)
            self._clock.at(arrives_at, self._deliver, session, session.link)

    def _hides_offer(self) -> bool:
        """As a cluster may: this subscriber is not given what others are."""
        share = self.weather.offers_lost
        return bool(share) and self._chance.random() < share

    def _deliver(self, session: Session, link: int) -> None:
        if not session.online or session.link != link:
            return
        letter = session.on_the_wire.popleft()
        left = None
        if letter.expires_at is not None:
            left = letter.expires_at - self._clock.now
            if left <= 0:
                return
        session.read.append(letter)
        session.receive(letter.address, letter.message, left, letter.retained)

    def travel(
        self, who: Who, _address: Address, _message: Message, not_before: Seconds, *, up: bool
    ) -> tuple[Seconds, tuple[Seconds, ...]]:
        """When this message lets the next one of its direction go, and when it and copies arrive.

        Not before the one before it.
        """
        weather, chance = self.weather, self._chance
        # The coordinator's link to its broker is a wire; a phone's last words may be lost.
        lossy = not up or who != COORDINATOR
        if lossy and weather.loss and chance.random() < weather.loss:
            self.dropped_count += 1
            return not_before, ()
        first = max(not_before, self._clock.now + chance.random() * 2 * weather.delay_s)
        if weather.duplication and chance.random() < weather.duplication:
            return first, (first, first)
        return first, (first,)


def _drop_copies(letters: deque[Letter]) -> None:
    # Two copies under way are one message still: else a link that breaks again and again would
    # multiply what it never delivers.
    once = {id(letter): letter for letter in letters}
    letters.clear()
    letters.extend(once.values())

"""What the coordinator listens to: all clients; while one floods it, each of the others by name.

    open      update/+/+/+/+, presence/+                   whoever there is, and whoever comes
    closed    update/+/ann/+/+, presence/ann, bob's, ...   those that are known, but for who floods

Where workers listen to some lanes, answers are listened to in the others alone: `update/7/+/+/+`.

What a broker passes on to us stands in one queue: where one client fills it faster than we can
throw its messages away, those of all others come late, or not at all. MQTT has no "all but this".
Measured with Mosquitto 2.0.11: with an open door, 18 rounds of half a second did not end in 100 s.

With a closed door newcomers are looked for now and then, by the presences that the broker retains.
Brokers that give those to nobody who asks with wildcards are asked by name, so that newcomers wait
until it is open again and they say something: nobody knows the name by which to ask for what lies
there, and to listen to all presences meanwhile would let a flood of them in.
"""

from collections.abc import Callable, Iterable, Iterator

from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.topics import ClientId, PresenceOf, Topics, UpdatePart, lane_of

LOOK_EVERY_S: Seconds = 15.0
"""For newcomers, while the door is closed."""

_FILTERS_AT_ONCE = 100
"""In one packet, so that it is a small one."""


class Door:
    """Of one link. Nothing is listened to before `listen`, nor after a connection is lost."""

    def __init__(self, loop: EventLoop, link: MqttLink, topics: Topics, lanes: int = 1) -> None:
        """`lanes`: how many there are. Until `hear` says otherwise all are listened to."""
        self._lane_count = lanes
        self._lanes = frozenset(range(lanes))
        self._loop = loop
        self._link = link
        self._topics = topics
        self._flooding: set[ClientId] = set()
        self._known: dict[ClientId, None] = {}
        """Those that are listened to by name; nobody while the door is open."""
        self._looking: Timer | None = None

    @property
    def is_closed(self) -> bool:
        return bool(self._flooding)

    def listen(self, known: Iterable[ClientId]) -> None:
        """Over a new connection, and to everybody: who floods still is soon found out. `known` are
        those whose presence may lie there."""
        self._flooding.clear()
        self._known.clear()
        self._stop_looking()
        self._link.listen(*self._all)
        self._ask(known)

    def hear(self, lanes: frozenset[int]) -> None:
        """Listen to answers in these lanes, and in no others."""
        before, self._lanes = self._lanes, lanes
        if self.is_closed:
            new = [
                self._answers_of(one) for one in self._known if self._lane(one) in lanes - before
            ]
            old = [
                self._answers_of(one) for one in self._known if self._lane(one) in before - lanes
            ]
        else:
            new = [self._topics.lane(one) for one in sorted(lanes - before)]
            old = [self._topics.lane(one) for one in sorted(before - lanes)]
        for some in _packets(new):
            self._link.listen(*some)
        for some in _packets(old):
            self._link.unlisten(*some)

    def close_to(self, client: ClientId, everybody: Callable[[], Iterable[ClientId]]) -> bool:
        """Listen to the others alone. Whether the client was listened to before. `everybody` is
        asked for only then: it is for each message of a flood that this is called."""
        if client in self._flooding:
            return False
        was_closed = self.is_closed
        self._flooding.add(client)
        if client in self._known:
            del self._known[client]
            self._link.unlisten(*self._filters(client))
        others = sorted(everybody())
        new = [one for one in others if one not in self._known and one not in self._flooding]
        self._known |= dict.fromkeys(new)
        for some in self._packets(new):
            self._link.listen(*some)
        if not was_closed:
            self._link.unlisten(*self._all)
            self._look_for_newcomers()
        return True

    def know(self, client: ClientId) -> None:
        """It has been heard of: while the door is closed, it is listened to by name."""
        if not self.is_closed or client in self._flooding or client in self._known:
            return
        self._known[client] = None
        self._link.listen(*self._filters(client))

    def open_to(self, client: ClientId) -> None:
        """It may be heard again; everybody may, when it was the last. What lies there as its
        presence comes again."""
        if client not in self._flooding:
            return
        self._flooding.discard(client)
        if self.is_closed:
            self.know(client)
            return
        self._link.listen(*self._all)
        for some in self._packets(self._known):
            self._link.unlisten(*some)
        self._known.clear()
        self._stop_looking()
        self._ask([client])

    def _ask(self, clients: Iterable[ClientId]) -> None:
        """For the presences that lie there, where the broker gives them to no wildcard."""
        self._link.ask_by_name((PresenceOf(client) for client in clients), once=True)

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._looking = None

    def _look_for_newcomers(self) -> None:
        # What is retained comes in between the two.
        self._link.listen(self._topics.any_presence)
        self._link.unlisten(self._topics.any_presence)
        self._looking = self._loop.call_in(LOOK_EVERY_S, self._look_for_newcomers)

    @property
    def _all(self) -> tuple[str, ...]:
        if self._lane_count == 1:
            return self._topics.any_update, self._topics.any_presence
        return *map(self._topics.lane, sorted(self._lanes)), self._topics.any_presence

    def _packets(self, clients: Iterable[ClientId]) -> Iterator[list[str]]:
        """Their filters, as many as fit into one."""
        return _packets([one for client in clients for one in self._filters(client)])

    def _filters(self, client: ClientId) -> tuple[str, ...]:
        presence = self._topics.filter(PresenceOf, client)
        return (
            (self._answers_of(client), presence)
            if self._lane(client) in self._lanes
            else (presence,)
        )

    def _answers_of(self, client: ClientId) -> str:
        return self._topics.filter(UpdatePart, client)

    def _lane(self, client: ClientId) -> int:
        return lane_of(client, self._lane_count)


def _packets(filters: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(filters), _FILTERS_AT_ONCE):
        yield filters[start : start + _FILTERS_AT_ONCE]

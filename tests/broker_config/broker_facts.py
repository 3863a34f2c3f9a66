"""What brokers differ in that we notice: found out by trying.

What was found is kept in broker_facts.json, from which the table in docs/brokers.md is made;
`python -m tests.broker_table` looks again, and writes both.
"""

import queue
from dataclasses import dataclass
from itertools import takewhile

from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import Arrived, LinkDown, Refused
from fedmqtt.topics import Address, ClientId, Inbox, RoundId, StatusPage, UpdatePart
from tests.broker_config.facts_table import Kept
from tests.broker_config.plain_client import Ended, connected
from tests.fedmqtt.peer import Peer, until

PACKETS = (150_000, 900_000, 1_900_000, 8_000_000)
"""Bytes of messages that are tried, one after the other."""

QUEUED = 12_000
"""Messages for a client that is away: more than Mosquitto keeps, as we configure it."""

_OF_ANN = UpdatePart(0, ClientId("ann"), RoundId(1), "0")
_FENCE = b"fence"


@dataclass(frozen=True, slots=True)
class Facts:
    protocol: str
    tells_limit: bool
    """How large a packet may be, when we connect."""
    takes_bytes: int
    """The largest message of `PACKETS` that it took."""
    retained_to_wildcards: bool
    names_with_dots: bool
    keeps_queued: int
    """Of `QUEUED` messages for a session whose client is away."""
    qos_2: str


KEPT = Kept(
    "broker_facts.json",
    "brokers.md",
    Facts,
    names={
        "mosquitto": "Mosquitto 2.0, our configuration",
        "embedded": "the embedded one, amqtt 0.12",
        "rabbitmq": "RabbitMQ 3.10 with its MQTT plugin",
        "nats": "NATS 2.9 with JetStream",
    },
    head=(
        "broker",
        "speaks",
        "tells its limit",
        "largest message of those tried",
        "retained to wildcards",
        "names with a dot",
        f"keeps of {QUEUED:,} messages for who is away",
        "QoS 2",
    ),
)
FOUND = KEPT.found()
"""By kind of broker, as tests/brokers.py calls them."""


def find(loop: EventLoop, url: str, federation: str) -> Facts:
    first = Peer(loop, url, federation, "first")
    up = first.connect()
    first.link.close()
    taken = takewhile(lambda size: _takes(loop, url, federation, size), PACKETS)
    return Facts(
        protocol=up.protocol,
        tells_limit=up.packet_bytes_max is not None,
        takes_bytes=max(taken, default=0),
        retained_to_wildcards=_gives_retained(url, federation),
        names_with_dots=_keeps_dots(loop, url, federation),
        keeps_queued=_keeps_queued(url, federation),
        qos_2=_qos_2(url, federation),
    )


def _takes(loop: EventLoop, url: str, federation: str, size: int) -> bool:
    """Whether a message of so many bytes comes back to its sender, who has subscribed before."""
    return _first_to_come_back(loop, url, federation, {_OF_ANN: bytes(size)}) == _OF_ANN


def _keeps_dots(loop: EventLoop, url: str, federation: str) -> bool:
    """Or does another topic's message come, and not this one's?"""
    dotted, plain = Inbox(ClientId("a.b")), Inbox(ClientId("a"))
    first = _first_to_come_back(loop, url, federation, {dotted: b"dotted", plain: b"plain"})
    return first == dotted


def _first_to_come_back(
    loop: EventLoop, url: str, federation: str, said: dict[Address, bytes]
) -> Address | None:
    """None where the connection is ended for it, or it is refused."""
    peer = Peer(loop, url, federation, f"asks-{len(said)}-{len(said.get(_OF_ANN, b''))}")
    peer.connect()
    peer.link.listen(peer.topics.path(StatusPage("x")).removesuffix("status/x") + "#")
    before = len(peer.events)
    for address, payload in said.items():
        peer.link.publish(address, payload)
    told = (Arrived, LinkDown, Refused)
    until(loop, lambda: any(isinstance(event, told) for event in peer.events[before:]))
    peer.link.close()
    first = next(event for event in peer.events[before:] if isinstance(event, told))
    return first.address if isinstance(first, Arrived) else None


def _gives_retained(url: str, federation: str) -> bool:
    # Brokers keep the order: what lay there comes before what is said then.
    topic = f"{federation}/lies/there"
    with connected(url, f"{federation}-writer") as writer:
        writer.publish(topic, b"before", retain=True)
        with connected(url, f"{federation}-reader") as reader:
            reader.subscribe(f"{federation}/lies/+")
            writer.publish(topic, b"now", retain=True)
            return bool(reader.receive().payload == b"before")


def _keeps_queued(url: str, federation: str) -> int:
    name, topic = f"{federation}-away", f"{federation}/inbox/away"
    with connected(url, name, clean_session=False) as away:
        away.subscribe(topic)
    with connected(url, f"{federation}-sender") as sender:
        sender.publish_all(topic, [str(number).encode() for number in range(QUEUED)])
        # Some may come twice.
        came: set[bytes] = set()
        with connected(url, name, clean_session=False) as away:
            while _FENCE not in came:
                # It is dropped, too, where the queue is full yet.
                sender.publish(topic, _FENCE)
                try:
                    while _FENCE not in came:
                        came.add(bytes(away.arrived.get(timeout=1).payload))
                except queue.Empty:
                    continue
    with connected(url, name):
        # The session is gone with that.
        return len(came) - 1


def _qos_2(url: str, federation: str) -> str:
    """What becomes of who asks for it: it is not what we do."""
    topic = f"{federation}/twice"
    with connected(url, f"{federation}-two") as two:
        granted = two.subscribe(topic, qos=2)
        try:
            two.publish(topic, b"x", qos=2)
        except Ended:
            return "ends the connection"
        return "yes" if granted == two.receive().qos == 2 else "as QoS 1"

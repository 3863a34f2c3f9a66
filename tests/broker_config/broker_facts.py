"""What brokers differ in that we notice: found out by trying, and as it was found before.

docs/brokers.md has the table that `table` makes of it.
"""

from dataclasses import astuple, dataclass
from itertools import takewhile

from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import Arrived, LinkDown, Refused
from fedmqtt.topics import Address, ClientId, Inbox, RoundId, StatusPage, UpdatePart
from tests.broker_config.plain_client import connected
from tests.fedmqtt.peer import Peer, until

PACKETS = (150_000, 900_000, 1_900_000, 8_000_000)
"""Bytes of messages that are tried, one after the other."""


_OF_ANN = UpdatePart(0, ClientId("ann"), RoundId(1), "0")


@dataclass(frozen=True, slots=True)
class Facts:
    protocol: str
    tells_limit: bool
    """How large a packet may be, when we connect."""
    takes_bytes: int
    """The largest message of `PACKETS` that it took."""
    retained_to_wildcards: bool
    names_with_dots: bool


NAMES = {
    "mosquitto": "Mosquitto 2.0, our configuration",
    "embedded": "the embedded one, amqtt 0.12",
    "rabbitmq": "RabbitMQ 3.10 with its MQTT plugin",
    "nats": "NATS 2.9 with JetStream",
}

FOUND = {
    "mosquitto": Facts("MQTT 5", True, 1_900_000, True, True),
    "embedded": Facts("MQTT 3.1.1", False, 8_000_000, True, True),
    "rabbitmq": Facts("MQTT 3.1.1", False, 8_000_000, False, False),
    "nats": Facts("MQTT 3.1.1", False, 8_000_000, True, False),
}
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
    )


def table() -> str:
    """As it stands in docs/brokers.md."""
    head = ("speaks", "tells its limit", "largest message of those tried", "retained to wildcards")
    lines = [
        f"| broker | {' | '.join(head)} | names with a dot |",
        "|" + "---|" * (len(head) + 2),
    ]
    for kind, facts in FOUND.items():
        lines.append(f"| {NAMES[kind]} | {' | '.join(map(_cell, astuple(facts)))} |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


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

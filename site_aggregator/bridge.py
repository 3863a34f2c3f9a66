"""What joins a site's own Mosquitto with the centre's broker, so that the site needs its own alone.

site ──▶ its broker ──bridge──▶ the centre's broker
"""

import re

from edge_client.config import ClientConfig
from fedmqtt.topics import Address, Inbox, ModelChunk, OfferBoard, PresenceOf, Topics, UpdatePart

_PLACE = re.compile(
    r"(?:(?P<host>[A-Za-z0-9_.-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})", re.ASCII
)
_READS: tuple[type[Address], ...] = (OfferBoard, ModelChunk, Inbox)
_WRITES: tuple[type[Address], ...] = (PresenceOf, UpdatePart)


class BridgeError(ValueError):
    """No place of a broker: says what one looks like."""


def block(centre: ClientConfig, address: str) -> str:
    """Lines for the mosquitto.conf of the site's broker. `address`: the centre's, host:port.

    Raises BridgeError."""
    topics, client = Topics(centre.federation), centre.id
    carried = [
        *(f"topic {topics.filter(kind, client)} in 1" for kind in _READS),
        *(f"topic {topics.filter(kind, client)} out 1" for kind in _WRITES),
    ]
    return "\n".join(
        (
            f"# What {client} reads and writes in {centre.federation}, and nothing else.",
            f"connection {centre.federation}-{client}",
            f"address {_address(address)}",
            "bridge_protocol_version mqttv50",
            "# What is said while the line is cut is kept on both sides, and goes on after.",
            "cleansession false",
            f"remote_clientid bridge-{centre.federation}-{client}",
            f"local_clientid bridge-{centre.federation}-{client}-local",
            "# Its own topics would be written at the centre, which a kit's rules forbid.",
            "notifications false",
            "start_type automatic",
            "restart_timeout 2 30",
            "keepalive_interval 30",
            "# Of a centre with accounts: that of this site, and the CA of the centre's broker.",
            "#remote_username ...",
            "#remote_password ...",
            "#bridge_cafile ...",
            *carried,
            "",
        )
    )


def _address(text: str) -> str:
    """HOST:PORT as Mosquitto has it: an IPv6 address without its brackets. Raises BridgeError."""
    place = _PLACE.fullmatch(text)
    if place is None or not 0 < int(place["port"]) < 65536:
        raise BridgeError(
            f"{text!r}: expected the host and the port of the centre's broker, like"
            " centre.example.org:8883"
        )
    return f"{place['host'] or place['ipv6']}:{place['port']}"

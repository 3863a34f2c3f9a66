"""What joins a site's own Mosquitto with the centre's broker, so that the site needs its own alone.

site ──▶ its broker ──bridge──▶ the centre's broker
"""

from edge_client.config import ClientConfig
from fedmqtt.topics import Address, Inbox, ModelChunk, OfferBoard, PresenceOf, Topics, UpdatePart

_READS: tuple[type[Address], ...] = (OfferBoard, ModelChunk, Inbox)
_WRITES: tuple[type[Address], ...] = (PresenceOf, UpdatePart)


def block(centre: ClientConfig, address: str) -> str:
    """Lines for the mosquitto.conf of the site's broker. `address`: the centre's, host:port."""
    topics, client = Topics(centre.federation), centre.id
    carried = [
        *(f"topic {topics.filter(kind, client)} in 1" for kind in _READS),
        *(f"topic {topics.filter(kind, client)} out 1" for kind in _WRITES),
    ]
    return "\n".join(
        (
            f"# What {client} reads and writes in {centre.federation}, and nothing else.",
            f"connection {centre.federation}-{client}",
            f"address {address}",
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

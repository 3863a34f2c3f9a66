"""Where Home Assistant looks for what describes our sensors to it.

    homeassistant/<component>/<node>/<object>/config    one entity, JSON, retained

A node is one federation. Source: Home Assistant documentation, "MQTT", section "Discovery topic":
node and object are of letters, digits, underscores and hyphens.
"""

import hashlib

PREFIX = "homeassistant"
"""As Home Assistant has it, unless it is set otherwise there."""

EVERYTHING = f"{PREFIX}/#"
"""What Home Assistant itself reads."""

_DIGEST_LENGTH = 8


def node_id(federation: str) -> str:
    """The federation's name where it has no dot; else one that no other federation has."""
    if "." not in federation:
        return f"fedmqtt_{federation}"
    digest = hashlib.sha256(federation.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"fedmqtt_{federation.replace('.', '_')}_{digest}"


def config_topic(federation: str, component: str, object_id: str) -> str:
    return f"{PREFIX}/{component}/{node_id(federation)}/{object_id}/config"


def config_filter(federation: str) -> str:
    """Matches every `config_topic` of this federation, and no other's."""
    return config_topic(federation, "+", "+")

"""Which brokers give nothing that is retained to a subscription with wildcards, against MQTT.

They have no word for that. RabbitMQ is known by having no shared subscriptions, which a broker of
MQTT 5 does say; whatever speaks 3.1.1 may be one. AWS IoT Core has shared subscriptions, and is
known by its host's name alone; it takes 8 filters in one SUBSCRIBE and 50 for a connection. Source:
AWS IoT Core Developer Guide, "MQTT", and AWS's quotas (docs/managed-brokers.md).
"""

from dataclasses import dataclass

_FILTERS_MAX = 100
_AWS = ".amazonaws.com"
_AWS_FILTERS_MAX = 8
_AWS_NAMES_MAX = 24
"""The others are for our own filters, and for the chunks of a model."""


@dataclass(frozen=True, slots=True)
class ByName:
    """How much may be asked for by name."""

    filters_max: int = _FILTERS_MAX
    """In one SUBSCRIBE: with names of 64 letters that is less than any broker's limit for a packet,
    but for AWS's."""
    names_max: int | None = None
    """For a connection; None: any number."""
    at_each_node: bool = True
    """Whether each node of a cluster may keep what is retained for itself, as RabbitMQ's do."""


def asked_by_name(host: str, *, is_v5: bool, shares: bool) -> ByName | None:
    """None where wildcards do. `shares`: whether the broker says it has shared subscriptions."""
    if host.lower().rstrip(".").endswith(_AWS):
        return ByName(_AWS_FILTERS_MAX, _AWS_NAMES_MAX, at_each_node=False)
    return None if is_v5 and shares else ByName()

"""Names with a dot, on brokers for which a dot is a slash: how it shows, and what people are told.

RabbitMQ keeps topics with dots in the place of slashes, and gives `fed/v1/home.1/offer` back as
`fed/v1/home/1/offer`, for which nobody asked. NATS before 2.10 takes no dots: it refuses the
subscription, or ends the connection, without a word of why. Found by trying (docs/brokers.md).
"""

from collections.abc import Iterable


def with_slashes(filters: Iterable[str]) -> dict[str, str]:
    """As RabbitMQ would give back what these filters ask for, where they have dots: the filters of
    that, each with the name that has the dot."""
    return {one.replace(".", "/"): name for one in filters if (name := _dotted(one))}


def _dotted(topic: str) -> str:
    return next((level for level in topic.split("/") if "." in level), "")


def are_slashes(broker: str, name: str) -> str:
    """What is told where it is certain."""
    return (
        f"{broker} takes the dot in {name!r} for a slash, as RabbitMQ does, and carries nothing to"
        " it: choose a name without dots"
    )


def may_be_why(name: str) -> str:
    """What is added to the reason where a connection ended, and nobody says why."""
    return (
        f"; that may be for the dot in {name!r}, which some brokers do not take, as NATS before"
        " 2.10: if it goes on, choose a name without dots"
    )

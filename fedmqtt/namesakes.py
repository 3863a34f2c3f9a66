"""Two programs of one name: how one of them notices, and what its owner is told. Pure.

A broker ends the older of two connections of one client id (MQTT 5, section 3.1.4), so that such
programs throw each other out in turn. Version 5 has a word for that, which not every broker says.
Else all there is to see is that each connection is ended soon after it was made.
"""

from fedmqtt.effects import Seconds

SOON_S: Seconds = 30.0
THROWN_OUT_MAX = 5
"""Times in a row that the broker ends a young connection, until people are told what it may be."""


def thrown_out(times: int, lasted_s: Seconds, *, by_broker: bool) -> int:
    """How many times in a row, after a connection has ended; `times` before it.

    `by_broker`: it was the broker that ended it, or something on the way.
    """
    return times + 1 if by_broker and lasted_s < SOON_S else 0


def suspicion(times: int, namesake: str) -> str:
    """What people are told of so many in a row; nothing of few."""
    if times < THROWN_OUT_MAX:
        return ""
    return f"the broker ended {times} connections soon after they were made; perhaps {namesake}"


def is_another_client(name: str) -> str:
    return f"another client calls itself {name!r}: give each device an id of its own"


def is_another_worker(name: str) -> str:
    return f"another worker calls itself {name!r}: give each worker a name of its own"

"""Whom a round is about, and which answer."""

from dataclasses import dataclass

from fedmqtt.topics import ClientId, RoundId

Clients = frozenset[ClientId]


NOBODY: Clients = frozenset()


@dataclass(frozen=True, slots=True)
class Named:
    """An answer, of this run."""

    client: ClientId
    round: RoundId

"""By which deltas a client comes from the model it holds to the one it wants. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from fedmqtt.messages import DeltaRef, ModelRef
from fedmqtt.topics import Digest


@dataclass(frozen=True, slots=True)
class Route:
    base: Digest
    """The model that is here."""
    deltas: tuple[DeltaRef, ...]
    """In the order in which they are applied."""


def route(model: ModelRef, held: Collection[Digest]) -> Route | None:
    """The fewest deltas that lead there; None where none do in fewer bytes than the model has."""
    for first in reversed(range(len(model.deltas))):
        for base in held:
            if model.deltas[first].changes(base):
                found = Route(base, model.deltas[first:])
                size_bytes = sum(delta.size_bytes for delta in found.deltas)
                return found if size_bytes < model.size_bytes else None
    return None

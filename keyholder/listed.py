"""What a key was used for."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmqtt.messages import Key32, Round, Run
from fedmqtt.topics import RoundId, RunId

Mode = Literal["trusted", "keyholders", "committee"]
Seeds = tuple[int, ...]
"""By number."""


LISTS_KEPT = 100
"""Newest that are remembered. A key that is older is gone, and with it every question."""


class Listed(Struct, frozen=True, kw_only=True):
    """A list of answers, of which a keyholder opens the sum with one of its keys, or has."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    """Of the key."""
    digest: Key32
    run: Run
    round: Round
    clients: int
    held: Seeds
    """Seeds of which the keyholder has the sums, growing."""
    seeds: Seeds
    """Whose sums it was asked for, and has to send until they are received."""
    digests: tuple[Key32, ...] = ()
    """Of the sums of all seeds that are held; none until they are added up."""
    is_received: bool = False
    """Whether the coordinator has said that it has what it asked for."""

    opens_more: bool = False
    """Whether its key is for more lists than those up to this one: see `taken.py`."""

    def is_of(self, run: RunId, round_id: RoundId) -> bool:
        return (self.run, self.round) == (run, round_id)

"""What a key was used for."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmqtt.messages import Key32, Round, Run

Mode = Literal["trusted", "keyholders"]


class Listed(Struct, frozen=True, kw_only=True):
    """A list of answers, of which a keyholder opens the sum with one of its keys, or has."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    """Of the key."""
    digest: Key32
    run: Run
    round: Round
    clients: int
    held: tuple[int, ...]
    """Seeds of which the keyholder has the sums, growing."""
    seeds: tuple[int, ...]
    """Whose sums it was asked for last."""
    digests: tuple[Key32, ...] = ()
    """Of the sums of all seeds that are held; none until they are added up."""
    is_received: bool = False
    """Whether the coordinator has said that it has what it asked for last."""

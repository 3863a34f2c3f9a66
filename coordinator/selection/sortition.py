"""At random, and each client sees for itself whether it is invited: offers stay small.

    S_t = the m candidates with the smallest draw(k) = SHA-256("salt/t/purpose/k"), first 7 bytes

An offer carries the salt and a threshold in the place of names: below 1 KB for a million clients.
Who was not there when the round opened, and comes while it is open, is invited by the same
threshold. Who measures the model is drawn in the same way.

With `fleet`, the federation is *quiet*: no client says that it is there, and the coordinator hears
of none but those that are drawn and answer. Then the threshold goes by how many are inferred to
answer (`coordinator/fleet_size.py`).

Source: the cryptographic sortition of Gilad et al., "Algorand: Scaling Byzantine Agreements for
Cryptocurrencies", SOSP 2017, section 5; `fedmqtt/sortition.py` says what differs.
"""

from collections.abc import Sequence
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from coordinator.selection import Fleet
from fedmqtt import sortition
from fedmqtt.topics import ClientId, RoundId

BY_SORTITION = True
GOES_BY = "nothing"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    fleet: Annotated[
        int,
        Meta(
            ge=0,
            le=2**30,
            description="How many clients there may be at most, where none says that it is there\n"
            "(docs/scale.md). How many of them answer is learned. 0: each says that it is there.",
        ),
    ] = 0


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    """Of a salt by chance. The round machine takes another, and draws by itself, since it needs
    the threshold."""
    drawn = sortition.draws(f"{chance.getrandbits(64):x}", RoundId(0), "train", candidates)
    order = sorted(zip(drawn, candidates, strict=True))
    return tuple(sorted(client for _, client in order[:count]))

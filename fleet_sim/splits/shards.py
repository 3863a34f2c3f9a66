"""Everybody holds few labels: sorted by label, the samples are cut into shards, which are dealt.

    sorted    0000000111111122222223333333444444455555556666666777777788888889999999
    shards    |-----|-----|-----|-----|-----|-----|-----|-----|-----|-----|-----|---
    a client         |-----|                              |-----|

With two shards each, as in the paper, most clients hold two labels and none more than four.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, section 3 ("Non-IID").
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from fleet_sim.splits import Labels, Positions, even_sizes, require_enough, sorted_pieces

BY_LABEL = True


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    shards: Annotated[
        int, Meta(ge=1, le=10_000, description="How many shards each client is dealt.")
    ] = 2


def split(
    settings: Settings,
    targets: Labels,
    owners: Sequence[str] | None,
    clients: int,
    chance: np.random.Generator,
) -> list[Positions]:
    """Every client gets as many shards; the sizes of shards differ by one at most."""
    count = clients * settings.shards
    require_enough(
        len(targets), count, f"{count:,} shards ({clients:,} clients with {settings.shards} each)"
    )
    shards = sorted_pieces(np.argsort(targets, kind="stable"), even_sizes(len(targets), count))
    dealt = chance.permutation(count).reshape(clients, settings.shards)
    return [np.sort(np.concatenate([shards[i] for i in own])) for own in dealt]

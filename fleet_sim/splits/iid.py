"""Everybody holds the same mixture: the samples are shuffled and dealt out evenly.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, section 3 ("IID").
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fleet_sim.splits import Labels, Positions, even_sizes, require_enough, sorted_pieces

BY_LABEL = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to set."""


def split(
    settings: Settings,
    targets: Labels,
    owners: Sequence[str] | None,
    clients: int,
    chance: np.random.Generator,
) -> list[Positions]:
    """Counts of samples differ by one at most."""
    require_enough(len(targets), clients, f"{clients:,} clients")
    return sorted_pieces(chance.permutation(len(targets)), even_sizes(len(targets), clients))

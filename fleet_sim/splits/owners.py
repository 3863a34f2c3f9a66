"""Everybody holds their own: a client is a person or a device whose samples these really are."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from fleet_sim.splits import Labels, Positions, SplitError

BY_LABEL = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    samples_min: Annotated[
        int, Meta(ge=1, description="Owners of fewer samples are left out, and so are these.")
    ] = 1


def split(
    settings: Settings,
    targets: Labels,
    owners: Sequence[str] | None,
    clients: int,
    chance: np.random.Generator,
) -> list[Positions]:
    """In the alphabetical order of the owners. Where there are more of them than clients, chance
    decides who takes part; the samples of the others are nobody's."""
    if owners is None:
        raise SplitError("nobody owns these samples by nature: choose another split than owners")
    own = positions_by_owner(owners, settings.samples_min)
    if not 1 <= clients <= len(own):
        raise SplitError(
            f"{len(own):,} owners have {settings.samples_min} samples or more, so there cannot be "
            f"{clients:,} clients: ask for no more than there are owners"
        )
    chosen = sorted(chance.choice(len(own), clients, replace=False).tolist())
    names = list(own)
    return [own[names[i]] for i in chosen]


def positions_by_owner(owners: Sequence[str], samples_min: int) -> dict[str, Positions]:
    """Of each owner with enough samples, in alphabetical order."""
    names, which, counts = np.unique(np.array(owners), return_inverse=True, return_counts=True)
    pieces = np.split(np.argsort(which, kind="stable"), counts.cumsum()[:-1])
    return {
        str(name): piece
        for name, piece in zip(names, pieces, strict=True)
        if len(piece) >= samples_min
    }

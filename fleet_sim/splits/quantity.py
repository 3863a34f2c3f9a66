"""Some hold much and most hold little, all of the same mixture.

The sizes follow one of two laws, both of which are observed in real fleets:

    power       the k-th largest client holds a share proportional to k^-spread
    lognormal   the logarithm of a client's share is normal with standard deviation `spread`

Source of the power law: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020,
section 5.1.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fleet_sim.splits import Labels, Positions, require_enough, sorted_pieces

BY_LABEL = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    law: Annotated[
        Literal["power", "lognormal"], Meta(description="Which law the clients' sizes follow.")
    ] = "power"
    spread: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="How unequal they are; 0: equal. power: the exponent. lognormal: the\n"
            "standard deviation of the logarithm.",
        ),
    ] = 1.0


def split(
    settings: Settings,
    targets: Labels,
    owners: Sequence[str] | None,
    clients: int,
    chance: np.random.Generator,
) -> list[Positions]:
    """All samples are dealt out: one to each client, and the rest by the law."""
    require_enough(len(targets), clients, f"{clients:,} clients")
    if settings.law == "power":
        weights = chance.permutation(np.arange(1.0, clients + 1) ** -settings.spread)
    else:
        weights = np.exp(settings.spread * chance.standard_normal(clients))
    sizes = 1 + _shared_out(len(targets) - clients, weights)
    return sorted_pieces(chance.permutation(len(targets)), sizes)


def _shared_out(count: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers that add up to `count`, each off its exact share by less than one."""
    shares = count * weights / weights.sum()
    sizes: NDArray[np.int64] = np.floor(shares).astype(np.int64)
    # Largest remainders; among equal ones the first.
    short = count - int(sizes.sum())
    sizes[np.argsort(sizes - shares, kind="stable")[:short]] += 1
    return sizes

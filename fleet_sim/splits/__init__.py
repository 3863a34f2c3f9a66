"""How a pool of samples is shared out among clients. One file per kind.

Each defines `Settings`, a struct whose every field has a default, and

    BY_LABEL                                                     whether it looks at labels
    split(settings, targets, owners, clients, chance) -> positions of each client's samples

where `targets` has one label per sample (or, where it does not look at them, whatever a sample's
targets are), `owners` names whose each sample is (None where nobody's), and `chance` is a stream of
its own for this split. Every client gets at least one sample, and no sample goes to two clients;
positions are sorted, so that a client reads its samples in the order of the pool. A split that
cannot be made raises SplitError.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
Labels = NDArray[np.integer[Any] | np.floating[Any]]


class SplitError(ValueError):
    """The samples cannot be shared out in this way; one sentence says why and what to change."""


class SplitPool(Protocol):
    def __call__(
        self,
        settings: Any,
        targets: Labels,
        owners: Sequence[str] | None,
        clients: int,
        chance: np.random.Generator,
        /,
    ) -> list[Positions]: ...


def require_enough(samples: int, pieces: int, why: str) -> None:
    """Raises SplitError where there are more pieces than samples to put into them."""
    if pieces < 1 or samples < pieces:
        raise SplitError(
            f"{samples:,} samples cannot be shared out among {why}: each needs at least one"
        )


def even_sizes(samples: int, clients: int) -> NDArray[np.int64]:
    """Add up to `samples` and differ by one at most, the larger ones first."""
    sizes = np.full(clients, samples // clients, np.int64)
    sizes[: samples % clients] += 1
    return sizes


def sorted_pieces(positions: Positions, sizes: NDArray[np.int64]) -> list[Positions]:
    """Consecutive pieces of the given sizes, each in the order of the pool."""
    return [np.sort(piece) for piece in np.split(positions, np.cumsum(sizes)[:-1])]

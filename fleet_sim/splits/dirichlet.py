"""Everybody holds a mixture of their own: each client's shares of the labels are drawn.

Client i draws its shares q_i ~ Dir(alpha p), where p are the shares of the labels in the pool, and
takes as many samples as everybody else, each of a label drawn from q_i, none twice. A label that
has run out is drawn no more. Large alpha: all are like the pool. Small alpha: nearly one label
each.

Source: Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated
Visual Classification", 2019, section 3.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fleet_sim.splits import Labels, Positions, SplitError, even_sizes, require_enough

BY_LABEL = True


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alpha: Annotated[
        float,
        Meta(
            ge=1e-3,
            le=1e6,
            description="Small: clients hold few labels each. Large: all hold the same mixture.\n"
            "It is the sum over all labels; some papers give it for each label.",
        ),
    ] = 0.5


def split(
    settings: Settings,
    targets: Labels,
    owners: Sequence[str] | None,
    clients: int,
    chance: np.random.Generator,
) -> list[Positions]:
    """Counts of samples differ by one at most.

    alpha is the concentration over all labels together: with ten equal labels, Dir(alpha p) is what
    others call a Dirichlet distribution with alpha / 10 for each label.
    """
    require_enough(len(targets), clients, f"{clients:,} clients")
    if not np.issubdtype(targets.dtype, np.integer):
        raise SplitError("a Dirichlet split needs classes, and these targets are not whole numbers")
    _, classes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    # Shuffled within each class: which of its samples a client takes is chance.
    shuffled = chance.permutation(len(targets))
    stacks = np.split(shuffled[np.argsort(classes[shuffled], kind="stable")], counts.cumsum()[:-1])
    left = counts.copy()
    shares = chance.dirichlet(settings.alpha * counts / counts.sum(), size=clients)
    found = []
    for size, share in zip(even_sizes(len(targets), clients).tolist(), shares, strict=True):
        taken = _take(size, share, left, chance)
        own = [stack[n - k : n] for stack, n, k in zip(stacks, left, taken, strict=True)]
        left -= taken
        found.append(np.sort(np.concatenate(own)))
    # The last to draw get what others left. Names must not tell who they are.
    return [found[i] for i in chance.permutation(clients)]


def _take(
    size: int, share: NDArray[np.float64], left: NDArray[np.int64], chance: np.random.Generator
) -> NDArray[np.int64]:
    """How many of each label, `size` in all and never more than are left."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        rest = left - taken
        weights = np.where(rest > 0, share, 0.0)
        if weights.sum() == 0.0:
            # Nothing is left of what this client prefers, to the last bit of a double.
            weights = rest.astype(np.float64)
        drawn = chance.multinomial(missing, weights / weights.sum())
        taken += np.minimum(drawn, rest)
    return taken

"""Spectral filter: those that together stand out in one direction are left out, if there are any.

    C = changes less their mean, one a row;  l_1 >= l_2 >= ... and u_1: eigenvalues of C C^T
    if l_1 >= gap * l_2, the f changes of largest u_1k^2 are left out
    the others are cut to `cut` times the median length of all, and averaged

Honest clients whose data differs differ in many directions, in none much more than in the next;
hostile ones that pull together make one stand out. As long as none does, everybody counts, also
those that other rules take for hostile because few have such data. Needs 2 f + 1 answers. No
samples counted.

Source: Shejwalkar and Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks
and Defenses for Federated Learning", NDSS 2021, algorithm 2 (divide-and-conquer), over all
parameters in one go. `gap` is ours (with 1 some are left out of every round, as there), and so is
cutting the others, for the round in which the filter is mistaken. Not to the median itself, which
short hostile ones make shorter; and honest ones with rare data are long. Keeps all updates of a
round on disk.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from coordinator.aggregation import Round
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gap: Annotated[
        float,
        Meta(
            ge=1,
            le=1e6,
            description="How many times the variance in the second direction the first has, where\n"
            "it stands out.",
        ),
    ] = 1.8
    cut: Annotated[
        float,
        Meta(
            gt=0,
            le=1e6,
            description="To how many times the median length longer ones are cut.",
        ),
    ] = 2.0


def build(settings: Settings, round_: Round) -> RobustRule:
    def rule(rows: Rows, f: int) -> Values:
        return spectral_filter(rows, f, settings.gap, settings.cut)

    return RobustRule(settings, round_, rule, name="spectral_filter", least=lambda f: 2 * f + 1)


def spectral_filter(rows: Rows, f: int, gap: float, cut: float) -> Values:
    gram = rows.gram()
    left_out = f if rows.count > 1 else 0
    # The inner products of what is left of the rows without their mean.
    centred = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
    variances, directions = np.linalg.eigh(centred)
    if left_out and variances[-1] < gap * variances[-2]:
        left_out = 0
    order = np.argsort(np.square(directions[:, -1]), kind="stable")
    kept = order[: rows.count - left_out]
    lengths = np.sqrt(np.maximum(np.diag(gram), 0.0))
    radius = cut * float(np.median(lengths))
    scale = np.divide(radius, lengths, out=np.ones(rows.count), where=lengths > radius)
    weights = np.zeros(rows.count)
    weights[kept] = scale[kept] / len(kept)
    return rows.combine(weights)

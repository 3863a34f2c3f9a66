"""Geometric median: the point with the least sum of distances to all changes (RFA).

    z = argmin sum_k a_k |z - x_k|
    by    b_k = a_k / max(nu, |z - x_k|)    z <- sum_k b_k x_k / sum_k b_k

Withstands fewer than half of the answers (by weight).

Source: Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning", IEEE
Transactions on Signal Processing 2022, algorithm 2 (smoothed Weiszfeld), from z = 0: no change.
There a_k is a client's share of the samples; here that is a setting, since a hostile client can
claim as many as limits.samples_max. `f` matters to `before` alone. Keeps all updates of a round on
disk.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from coordinator.aggregation import Round
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nu: Annotated[
        float, Meta(gt=0, le=1, description="Distances below it count as it: smoothing.")
    ] = 1e-6
    iterations: Annotated[int, Meta(ge=1, le=1000, description="Steps towards the median.")] = 32
    by_samples: Annotated[
        bool, Meta(description="Weigh clients by the samples they claim; else all alike.")
    ] = False


def build(settings: Settings, round_: Round) -> RobustRule:
    def rule(rows: Rows, f: int) -> Values:
        return geometric_median(rows, settings)

    return RobustRule(settings, round_, rule, name="geometric_median")


def geometric_median(rows: Rows, settings: Settings) -> Values:
    # z stays a weighted sum of rows, so its distances follow from inner products.
    gram = rows.gram()
    own = np.diag(gram)
    alpha = rows.samples if settings.by_samples else np.ones(rows.count)
    weights = np.zeros(rows.count)
    for _ in range(settings.iterations):
        towards = gram @ weights
        squared = own - 2 * towards + weights @ towards
        distances = np.sqrt(np.maximum(squared, 0.0))
        weights = alpha / np.maximum(distances, settings.nu)
        weights /= weights.sum()
    return rows.combine(weights)

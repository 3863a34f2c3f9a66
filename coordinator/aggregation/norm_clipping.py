"""Median-norm clipping: no change counts for more than one of median length. Then their mean.

    x_k min(1, radius / |x_k|), averaged        radius: the median of all |x_k|

The default to recommend where some clients may be hostile: it costs next to nothing where none is.

Source: Sun et al., "Can You Really Backdoor Federated Learning?", 2019 (norm thresholding), with
the median as the threshold. No samples counted, unless that is asked for. `f` matters to `before`
alone. Keeps all updates of a round on disk.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from coordinator.aggregation import Round
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    by_samples: Annotated[
        bool, Meta(description="Weigh clients by the samples they claim; else all alike.")
    ] = False


def build(settings: Settings, round_: Round) -> RobustRule:
    def rule(rows: Rows, f: int) -> Values:
        return norm_clipping(rows, settings)

    return RobustRule(settings, round_, rule, name="norm_clipping")


def norm_clipping(rows: Rows, settings: Settings) -> Values:
    norms = np.sqrt(np.diag(rows.gram()))
    radius = float(np.median(norms))
    kept = np.divide(radius, norms, out=np.ones(rows.count), where=norms > radius)
    weights = rows.samples if settings.by_samples else np.ones(rows.count)
    return rows.combine(kept * weights / weights.sum())

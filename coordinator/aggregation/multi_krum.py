"""Multi-Krum: the mean of the n - f changes that are nearest to their neighbours.

    score_i = sum of |x_i - x_j|^2 over the n - f - 1 others that are nearest to x_i

Needs 2 f + 3 answers. No samples counted.

Source: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, section 4, with m = n - f, and one neighbour more, as in Farhadkhani et al.,
"Byzantine Machine Learning Made Easy by Resilient Averaging of Momentums", ICML 2022. Keeps all
updates of a round on disk.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.robust.neighbours import krum_scores
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def build(settings: Settings, round_: Round) -> RobustRule:
    return RobustRule(settings, round_, multi_krum, name="multi_krum", least=lambda f: 2 * f + 3)


def multi_krum(rows: Rows, f: int) -> Values:
    scores = krum_scores(rows.squared_distances(), f)
    return rows.mean_of(np.argsort(scores, kind="stable")[: rows.count - f])

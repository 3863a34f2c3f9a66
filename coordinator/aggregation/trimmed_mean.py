"""Coordinate-wise trimmed mean: each parameter without its f largest and f smallest changes.

Needs 2 f + 1 answers. No samples counted.

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, algorithm 1, option II. Keeps all updates of a round on disk.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def build(settings: Settings, round_: Round) -> RobustRule:
    return RobustRule(
        settings, round_, trimmed_mean, name="trimmed_mean", least=lambda f: 2 * f + 1
    )


def trimmed_mean(rows: Rows, f: int) -> Values:
    found = np.empty(rows.size)
    for columns, block in rows.blocks():
        found[columns] = np.sort(block, axis=0)[f : rows.count - f].mean(axis=0)
    return found

"""Coordinate-wise median: each parameter moves as the client in the middle says.

Withstands fewer than half of the answers. No samples counted. Where clients have different data it
is far off without any attack: see `docs/strategies.md`.

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, algorithm 1, option I. `f` matters to `before` alone. Keeps all updates of a round on
disk.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def build(settings: Settings, round_: Round) -> RobustRule:
    return RobustRule(settings, round_, median, name="median")


def median(rows: Rows, f: int) -> Values:
    found = np.empty(rows.size)
    for columns, block in rows.blocks():
        found[columns] = np.median(block, axis=0)
    return found

"""Bulyan: Krum chooses n - 2 f changes one by one, then those near their median are averaged.

    S = {}; n - 2 f times: move the row with the least Krum score, among those left, to S
    of each parameter, the mean of the n - 4 f values in S that are nearest to the median of S

Needs 4 f + 3 answers. No samples counted.

Source: El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in
Byzantium", ICML 2018, section 4, with Krum's score as in `krum.py`. Keeps all updates of a round on
disk.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.robust.neighbours import krum_scores
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


def build(settings: Settings, round_: Round) -> RobustRule:
    return RobustRule(settings, round_, bulyan, name="bulyan", least=lambda f: 4 * f + 3)


def bulyan(rows: Rows, f: int) -> Values:
    chosen = _chosen(rows.squared_distances(), f)
    averaged = len(chosen) - 2 * f
    found = np.empty(rows.size)
    for columns, block in rows.blocks():
        # In order of value, so that of two as near as each other the smaller comes first.
        values = np.sort(block[chosen], axis=0)
        order = np.argsort(np.abs(values - np.median(values, axis=0)), axis=0, kind="stable")
        found[columns] = np.take_along_axis(values, order[:averaged], axis=0).mean(axis=0)
    return found


def _chosen(squared_distances: Values, f: int) -> list[int]:
    left = list(range(len(squared_distances)))
    chosen = []
    for _ in range(len(left) - 2 * f):
        scores = krum_scores(squared_distances[np.ix_(left, left)], f)
        chosen.append(left.pop(int(scores.argmin())))
    return sorted(chosen)

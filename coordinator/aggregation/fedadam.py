"""FedAdam: a server step for each parameter, scaled by how much it moved lately.

    v_next = b2 v + (1 - b2) d^2        d: the weighted mean of the changes, as in fedavg

and from there as in `coordinator/sums/server_optimiser.py`; Adam's correction of the first rounds
is not in the paper.

Source: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2. Remembers m and v,
two models' size.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.sums.server_optimiser import AdaptiveSettings, SquaresKept, adaptive
from coordinator.sums.weighted_mean import Values, WeightedMean

MEAN_ALONE = True


class Settings(AdaptiveSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    squares: SquaresKept = 0.99


def build(settings: Settings, round_: Round) -> WeightedMean:
    def second_moment(before: Values, mean: Values) -> Values:
        return settings.squares * before + (1 - settings.squares) * np.square(mean)

    return adaptive(settings, round_, second_moment)

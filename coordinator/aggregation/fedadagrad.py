"""FedAdagrad: a server step for each parameter, smaller the more it has moved in all rounds so far.

    v_next = v + d^2        d: the weighted mean of the changes, as in fedavg

and from there as in `coordinator/sums/server_optimiser.py`.

Source: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2. Remembers m and v,
two models' size.
"""

import numpy as np

from coordinator.aggregation import Round
from coordinator.sums.server_optimiser import AdaptiveSettings, Momentum, adaptive
from coordinator.sums.weighted_mean import Values, WeightedMean

MEAN_ALONE = True


class Settings(AdaptiveSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # As in the paper.
    momentum: Momentum = 0.0


def build(settings: Settings, round_: Round) -> WeightedMean:
    def second_moment(before: Values, mean: Values) -> Values:
        return before + np.square(mean)

    return adaptive(settings, round_, second_moment)

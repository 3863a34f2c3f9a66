"""FedYogi: as FedAdam, but the scale of a parameter's steps changes only a little in each round.

    v_next = v - (1 - b2) d^2 sign(v - d^2)        d: the weighted mean of the changes

and from there as in `coordinator/sums/server_optimiser.py`.

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
        square = np.square(mean)
        return before - (1 - settings.squares) * square * np.sign(before - square)

    return adaptive(settings, round_, second_moment)

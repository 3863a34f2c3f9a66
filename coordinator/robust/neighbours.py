"""How near rows are to each other."""

import numpy as np

from coordinator.robust.rows import Values


def krum_scores(squared_distances: Values, f: int) -> Values:
    """Of each row, the sum of its squared distances to the n - f - 1 others nearest to it.

    Sources: see `coordinator/aggregation/krum.py`.
    """
    count = len(squared_distances)
    # The first is the row itself, at distance 0.
    found: Values = np.sort(squared_distances, axis=1)[:, 1 : count - f].sum(axis=1)
    return found

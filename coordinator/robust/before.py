"""What changes pass through before a robust rule, so that honest clients with different data look
less different: the rule then takes fewer of them for hostile.
"""

import hashlib

import numpy as np

from coordinator.robust.rows import Rows


def nearest_neighbours_mixed(rows: Rows, f: int) -> Rows:
    """Each row becomes the mean of the n - f rows that are nearest to it, itself among them.

    Source: Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under
    Heterogeneity", AISTATS 2023 (NNM).
    """
    near = rows.count - f
    mix = np.zeros((rows.count, rows.count))
    order = np.argsort(rows.squared_distances(), axis=1, kind="stable")
    np.put_along_axis(mix, order[:, :near], 1.0 / near, axis=1)
    return rows.mixed(mix)


def bucketed(rows: Rows, size: int, seed: int) -> Rows:
    """The means of `size` rows each, put together by chance; the last may have fewer.

    Source: Karimireddy, He and Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via
    Bucketing", ICLR 2022, algorithm 1. Who hides among f of n rows then hides among f of n / size.
    """
    count = rows.count
    # By hash, not by a library's generator: the same groups in any version of it.
    order = sorted(range(count), key=lambda row: _lot(seed, rows, row))
    buckets = [order[start : start + size] for start in range(0, count, size)]
    mix = np.zeros((len(buckets), count))
    for bucket, members in enumerate(buckets):
        mix[bucket, members] = 1.0 / len(members)
    return rows.mixed(mix)


def _lot(seed: int, rows: Rows, row: int) -> bytes:
    # A row that was mixed has the place, and so the name, of the client in its centre.
    name = rows.names[row] if rows.count == len(rows.names) else str(row)
    return hashlib.sha256(f"{seed}/bucket/{name}".encode()).digest()

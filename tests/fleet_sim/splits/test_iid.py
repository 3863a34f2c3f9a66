"""The split in which all hold the same mixture."""

import numpy as np

from fleet_sim.splits import iid


def test_all_samples_are_dealt_out_evenly() -> None:
    held = iid.split(iid.Settings(), np.zeros(10), None, 4, np.random.default_rng(0))
    assert [len(own) for own in held] == [3, 3, 2, 2]


def test_everybody_holds_nearly_the_mixture_of_the_pool() -> None:
    labels = np.repeat([0, 1], [8000, 2000])
    held = iid.split(iid.Settings(), labels, None, 10, np.random.default_rng(0))
    shares = [labels[own].mean() for own in held]
    # 1,000 draws of a fifth: the standard deviation is 0.0126.
    assert all(abs(share - 0.2) < 0.06 for share in shares)

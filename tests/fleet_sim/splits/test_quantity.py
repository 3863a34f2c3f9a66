"""The split in which some hold much and most hold little."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_sim.splits import quantity
from fleet_sim.splits.quantity import Settings


def _sizes(settings: Settings, samples: int, clients: int, seed: int = 0) -> NDArray[np.int64]:
    """Of the clients, the largest first."""
    labels = np.zeros(samples)
    held = quantity.split(settings, labels, None, clients, np.random.default_rng(seed))
    return np.sort([len(own) for own in held])[::-1]


def test_the_power_law_is_that_of_the_rank() -> None:
    # 1 each, and 1,100 in the proportions 1 : 1/2 : 1/3, which are 600 : 300 : 200.
    assert _sizes(Settings(law="power", spread=1), 1103, 3).tolist() == [601, 301, 201]
    # Exponent 2: 1 : 1/4 : 1/9 of 490 is 360 : 90 : 40.
    assert _sizes(Settings(law="power", spread=2), 493, 3).tolist() == [361, 91, 41]


def test_the_logarithms_of_lognormal_sizes_vary_by_the_spread() -> None:
    logarithms = np.log(_sizes(Settings(law="lognormal", spread=0.5), 10_000_000, 2_000))
    assert logarithms.std() == pytest.approx(0.5, rel=0.06)
    # Symmetrical, as a power law is not.
    assert np.mean(logarithms) == pytest.approx(np.median(logarithms), abs=0.05)


@pytest.mark.parametrize("law", ["power", "lognormal"])
def test_without_spread_all_hold_as_much(law: str) -> None:
    settings = Settings(law="power" if law == "power" else "lognormal", spread=0)
    assert _sizes(settings, 10, 4).tolist() == [3, 3, 2, 2]


def test_the_most_unequal_law_leaves_everybody_one_sample() -> None:
    sizes = _sizes(Settings(spread=10), 1000, 50)
    assert sizes[-1] == 1
    assert sizes[0] > 900
    assert sizes.sum() == 1000


def test_who_is_large_is_chance() -> None:
    labels = np.zeros(1000)
    largest = {
        int(np.argmax([len(own) for own in held]))
        for seed in range(20)
        for held in [quantity.split(Settings(), labels, None, 10, np.random.default_rng(seed))]
    }
    assert len(largest) > 3


def test_the_labels_of_large_and_small_are_mixed_alike() -> None:
    labels = np.repeat([0, 1], 10_000)
    held = quantity.split(Settings(), labels, None, 20, np.random.default_rng(0))
    # The smallest holds 278 samples: six standard deviations are 0.18.
    assert all(abs(labels[own].mean() - 0.5) < 0.18 for own in held)

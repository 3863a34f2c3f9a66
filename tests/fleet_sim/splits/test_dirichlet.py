"""The split whose mixtures are drawn: how unequal they are, and what if labels run out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fleet_sim.splits import SplitError, dirichlet

LABELS = np.repeat(np.arange(10), 600)


def _mixtures(alpha: float, clients: int = 60, seed: int = 0) -> NDArray[np.float64]:
    """(clients, 10): each client's shares of the labels."""
    settings = dirichlet.Settings(alpha=alpha)
    held = dirichlet.split(settings, LABELS, None, clients, np.random.default_rng(seed))
    counts = np.array([np.bincount(LABELS[own], minlength=10) for own in held])
    mixtures: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return mixtures


def test_everybody_holds_as_much_and_nothing_is_left() -> None:
    held = dirichlet.split(dirichlet.Settings(), LABELS, None, 7, np.random.default_rng(0))
    assert {len(own) for own in held} == {857, 858}
    assert sum(map(len, held)) == len(LABELS)


def test_mixtures_are_the_more_alike_the_larger_alpha_is() -> None:
    largest = [_mixtures(alpha).max(axis=1).mean() for alpha in (0.1, 1, 10, 100, 1e6)]
    assert largest == sorted(largest, reverse=True)
    # 0.1: nearly one label each. 1e6: a tenth of each, but for the chance of drawing 100 samples.
    assert largest[0] > 0.85
    assert largest[3] < 0.3
    assert largest[4] < 0.2


@pytest.mark.parametrize("alpha", [0.2, 1, 9])
def test_shares_vary_as_the_distribution_says(alpha: float) -> None:
    # Two labels and two clients: no label runs out for the first to draw, and the second gets what
    # is left, which is as far from one half.
    labels = np.repeat([0, 1], 1000)
    off_a_half = []
    for seed in range(400):
        settings = dirichlet.Settings(alpha=alpha)
        held = dirichlet.split(settings, labels, None, 2, np.random.default_rng(seed))
        off_a_half.append(labels[held[0]].mean() - 0.5)
    # Var(q) = p (1 - p) / (alpha + 1). Drawing 1,000 samples from q adds 0.00025 at most.
    assert np.mean(np.square(off_a_half)) == pytest.approx(0.25 / (alpha + 1), rel=0.2)


def test_the_shares_of_the_pool_are_those_around_which_is_drawn() -> None:
    labels = np.repeat([0, 1], [9000, 1000])
    settings = dirichlet.Settings(alpha=100)
    held = dirichlet.split(settings, labels, None, 20, np.random.default_rng(0))
    shares = [labels[own].mean() for own in held]
    assert np.mean(shares) == pytest.approx(0.1)
    # The standard deviation is sqrt(0.1 * 0.9 * (1/101 + 1/500)) = 0.033.
    assert 0.01 < np.std(shares) < 0.07


def test_the_least_alpha_still_gives_everybody_as_much() -> None:
    # Nearly all shares are zero to the last bit, and nearly every client finds its label gone.
    settings = dirichlet.Settings(alpha=1e-3)
    held = dirichlet.split(settings, LABELS, None, 6000, np.random.default_rng(0))
    assert {len(own) for own in held} == {1}
    held = dirichlet.split(settings, LABELS, None, 9, np.random.default_rng(0))
    assert sum(map(len, held)) == len(LABELS)


def test_who_drew_last_does_not_show_in_the_order() -> None:
    # What is left to the last clients is no longer what they would draw: nearly the whole of one
    # label is rare among them. If they always came last, the last tenth would always be mixed.
    lasts = [_mixtures(0.05, clients=100, seed=seed)[-10:].max(axis=1).mean() for seed in range(10)]
    firsts = [_mixtures(0.05, clients=100, seed=seed)[:10].max(axis=1).mean() for seed in range(10)]
    assert np.mean(lasts) == pytest.approx(np.mean(firsts), abs=0.08)


def test_targets_that_are_no_classes_are_refused() -> None:
    with pytest.raises(SplitError, match="needs classes"):
        dirichlet.split(
            dirichlet.Settings(), np.linspace(0, 1, 9), None, 3, np.random.default_rng(0)
        )

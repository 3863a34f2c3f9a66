"""The split of the paper's "non-IID" column."""

import numpy as np
import pytest

from fleet_sim.splits import SplitError, shards

# 100 clients, 600 samples each, ten classes of nearly the same size: as MNIST is.
SIZES = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), SIZES))


def test_two_shards_hold_two_labels_and_rarely_more() -> None:
    held = shards.split(shards.Settings(), LABELS, None, 100, np.random.default_rng(0))
    assert {len(own) for own in held} == {600}
    labels = [len(np.unique(LABELS[own])) for own in held]
    assert max(labels) <= 4
    # Nine of 200 shards lie across two classes, so nine clients at most hold more than two.
    assert sum(count > 2 for count in labels) <= 9
    assert sum(count == 2 for count in labels) > 70


def test_one_shard_each_follows_the_sorted_labels() -> None:
    labels = np.array([2, 0, 1, 0, 2, 1])
    held = shards.split(shards.Settings(shards=1), labels, None, 3, np.random.default_rng(0))
    assert sorted(own.tolist() for own in held) == [[0, 4], [1, 3], [2, 5]]


def test_shards_of_uneven_sizes_leave_no_sample_out() -> None:
    held = shards.split(shards.Settings(), np.arange(11), None, 3, np.random.default_rng(0))
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(11))


def test_more_shards_than_samples_are_refused() -> None:
    with pytest.raises(
        SplitError, match=r"11 samples .* among 12 shards \(6 clients with 2 each\)"
    ):
        shards.split(shards.Settings(), np.arange(11), None, 6, np.random.default_rng(0))

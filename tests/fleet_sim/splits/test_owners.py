"""The split by who the samples really belong to."""

import numpy as np
import pytest

from fleet_sim.splits import SplitError, owners
from fleet_sim.splits.owners import Settings

OWNERS = ["cat", "ann", "bob", "ann", "cat", "ann"]
LABELS = np.zeros(6)


def _split(settings: Settings, clients: int, seed: int = 0) -> list[list[int]]:
    chance = np.random.default_rng(seed)
    return [own.tolist() for own in owners.split(settings, LABELS, OWNERS, clients, chance)]


def test_each_owner_has_all_of_its_own_in_alphabetical_order() -> None:
    assert _split(Settings(), 3) == [[1, 3, 5], [2], [0, 4]]


def test_owners_of_too_little_are_left_out() -> None:
    assert _split(Settings(samples_min=2), 2) == [[1, 3, 5], [0, 4]]
    assert _split(Settings(samples_min=3), 1) == [[1, 3, 5]]


def test_chance_decides_who_takes_part_where_there_are_more_owners_than_clients() -> None:
    drawn = [_split(Settings(), 2, seed) for seed in range(30)]
    assert all(len(own) == 2 for own in drawn)
    assert {str(own) for own in drawn} == {
        "[[1, 3, 5], [2]]",
        "[[1, 3, 5], [0, 4]]",
        "[[2], [0, 4]]",
    }


def test_more_clients_than_owners_are_refused() -> None:
    with pytest.raises(
        SplitError, match=r"2 owners have 2 samples or more, .* cannot be 3 clients"
    ):
        _split(Settings(samples_min=2), 3)


def test_a_pool_that_nobody_owns_is_refused() -> None:
    with pytest.raises(SplitError, match="nobody owns these samples by nature"):
        owners.split(Settings(), LABELS, None, 1, np.random.default_rng(0))

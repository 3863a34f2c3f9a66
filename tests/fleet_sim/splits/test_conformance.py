"""What holds for every kind of split, found by being in the folder."""

from types import ModuleType

import numpy as np
import pytest

from fedmqtt import parts
from fleet_sim import splits
from fleet_sim.splits import Positions, SplitError

LABELS = np.repeat(np.arange(10), [5, 10, 20, 30, 40, 50, 60, 70, 80, 135])
OWNERS = [f"owner-{i % 50:02}" for i in range(len(LABELS))]


@pytest.fixture(params=parts.names(splits))
def kind(request: pytest.FixtureRequest) -> ModuleType:
    return parts.load(splits, request.param)


def _split(kind: ModuleType, clients: int, seed: int = 0) -> list[Positions]:
    chance = np.random.default_rng(seed)
    held: list[Positions] = kind.split(kind.Settings(), LABELS, OWNERS, clients, chance)
    return held


@pytest.mark.parametrize("clients", [1, 2, 7, 50])
@pytest.mark.parametrize("seed", range(3))
def test_every_client_gets_samples_and_no_sample_goes_to_two(
    kind: ModuleType, clients: int, seed: int
) -> None:
    held = _split(kind, clients, seed)
    assert len(held) == clients
    assert all(len(own) >= 1 for own in held)
    together = np.concatenate(held)
    assert len(np.unique(together)) == len(together)
    assert together.min() >= 0
    assert together.max() < len(LABELS)


@pytest.mark.parametrize("clients", [1, 2, 7, 50])
def test_a_client_reads_its_samples_in_the_order_of_the_pool(
    kind: ModuleType, clients: int
) -> None:
    assert all((np.diff(own) > 0).all() for own in _split(kind, clients))


def test_the_same_chance_gives_the_same_split_and_another_does_not(kind: ModuleType) -> None:
    first, again, other = (_split(kind, 7, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_labels_that_were_given_are_left_as_they_were(kind: ModuleType) -> None:
    before = LABELS.copy()
    _split(kind, 7)
    assert np.array_equal(LABELS, before)


def test_only_a_kind_that_goes_by_labels_looks_at_them(kind: ModuleType) -> None:
    other = np.random.default_rng(3).permutation(LABELS)
    first, then = (
        kind.split(kind.Settings(), labels, OWNERS, 7, np.random.default_rng(0))
        for labels in (LABELS, other)
    )
    is_same = all(np.array_equal(a, b) for a, b in zip(first, then, strict=True))
    assert is_same != kind.BY_LABEL


@pytest.mark.parametrize("clients", [0, len(LABELS) + 1])
def test_more_clients_than_samples_or_none_at_all_are_refused(
    kind: ModuleType, clients: int
) -> None:
    with pytest.raises(SplitError, match=r"^[0-9,]+ (samples|owners) .*cannot be"):
        _split(kind, clients)


def test_every_kind_has_settings_with_defaults_and_says_where_it_comes_from(
    kind: ModuleType,
) -> None:
    kind.Settings()
    assert kind.__doc__

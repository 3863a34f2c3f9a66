"""Whole weights that keyholders open sums by."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.masking import public_weights
from fedmqtt.messages import TIMES_MAX

WEIGHTS = st.dictionaries(
    st.integers(0, 10_000), st.floats(0, 1, exclude_min=True), min_size=1, max_size=60
)


@given(WEIGHTS, st.integers(2, 12))
def test_so_many_clients_as_the_floor_have_each_number(
    weights: dict[int, float], floor: int
) -> None:
    found = public_weights.times(weights, floor)
    assert found.keys() == weights.keys()
    assert all(1 <= one <= TIMES_MAX for one in found.values())
    if len(weights) >= floor:
        assert min(Counter(found.values()).values()) >= floor
    else:
        assert set(found.values()) == {1}
    # Who weighs more is in it no less often.
    ordered = sorted(weights, key=lambda one: weights[one])
    assert [found[one] for one in ordered] == sorted(found.values())


@given(WEIGHTS, st.integers(2, 12), st.randoms(use_true_random=False))
def test_the_order_in_which_answers_came_changes_nothing(
    weights: dict[int, float], floor: int, chance: Random
) -> None:
    shuffled = list(weights.items())
    chance.shuffle(shuffled)
    assert public_weights.times(dict(shuffled), floor) == public_weights.times(weights, floor)


def _of(groups: dict[float, int]) -> dict[str, float]:
    return {f"{at}-{weight}": weight for weight, count in groups.items() for at in range(count)}


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        # Enough of each: 8 times the weight.
        ({1.0: 3, 0.7071: 3, 0.5774: 4}, {8: 3, 6: 3, 5: 4}),
        # All the same.
        ({0.5774: 4}, {1: 4}),
        ({1.0: 5}, {1: 5}),
        # What divides all of them is left out.
        ({1.0: 3, 0.5: 3}, {2: 3, 1: 3}),
        # One alone goes to the nearer of the others: 0.7071 is 6, and 0.5774 is 5.
        ({1.0: 3, 0.7071: 1, 0.5774: 4}, {8: 3, 5: 5}),
        ({1.0: 3, 0.875: 1, 0.5774: 4}, {8: 4, 5: 4}),
        # Two of two kinds are enough together, at the larger number.
        ({1.0: 2, 0.875: 2, 0.375: 3}, {8: 4, 3: 3}),
        # Too few for a sum at all.
        ({1.0: 1, 0.5: 1}, {1: 2}),
    ],
)
def test_numbers_move_as_little_as_they_can(
    groups: dict[float, int], wanted: dict[int, int]
) -> None:
    assert Counter(public_weights.times(_of(groups), 3).values()) == wanted

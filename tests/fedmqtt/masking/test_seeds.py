"""Any t + 1 places hold all seeds, any t lack one: looked at for every case there can be."""

from collections import Counter
from itertools import combinations

import pytest

from fedmqtt.masking import seeds
from fedmqtt.messages import KEYHOLDERS_MAX, SEED_SHARE_MAX

CASES = [(m, t) for m in range(1, KEYHOLDERS_MAX + 1) for t in range(m)]


def _held(places: int, tolerated: int, there: tuple[int, ...]) -> set[int]:
    held = seeds.held_by(places, tolerated)
    return {seed for place in there for seed in held[place]}


def test_three_places_of_which_one_is_tolerated() -> None:
    assert seeds.held_by(3, 1) == ((1, 2), (0, 2), (0, 1))
    assert seeds.count(3, 1) == 3


def test_a_trusted_one_holds_the_only_seed() -> None:
    assert seeds.held_by(1, 0) == ((0,),)
    assert seeds.assign(1, 0, [0]) == {0: 0}


@pytest.mark.parametrize(("places", "tolerated"), CASES)
def test_one_more_than_are_tolerated_hold_all_seeds_and_no_fewer_do(
    places: int, tolerated: int
) -> None:
    all_seeds = set(range(seeds.count(places, tolerated)))
    for there in combinations(range(places), tolerated + 1):
        assert _held(places, tolerated, there) == all_seeds
    for there in combinations(range(places), tolerated):
        assert _held(places, tolerated, there) < all_seeds


@pytest.mark.parametrize(("places", "tolerated"), CASES)
def test_work_is_given_to_who_is_there_and_holds_it_and_evenly(places: int, tolerated: int) -> None:
    held = seeds.held_by(places, tolerated)
    number = seeds.count(places, tolerated)
    for count in range(places + 1):
        for there in combinations(range(places), count):
            assigned = seeds.assign(places, tolerated, there[::-1])
            if count <= tolerated:
                assert assigned is None
                continue
            assert assigned is not None and list(assigned) == list(range(number))
            assert all(place in there and seed in held[place] for seed, place in assigned.items())
            assert max(Counter(assigned.values()).values()) == -(-number // count)


@pytest.mark.parametrize(("places", "tolerated"), [(3, 3), (1, 1), (0, 0), (3, -1)])
def test_a_scheme_that_nobody_could_open_is_none(places: int, tolerated: int) -> None:
    with pytest.raises(ValueError, match="tolerated"):
        seeds.held_by(places, tolerated)


@pytest.mark.parametrize(("places", "tolerated"), CASES)
def test_what_is_sealed_to_one_fits_its_message(places: int, tolerated: int) -> None:
    for held in seeds.held_by(places, tolerated):
        assert 32 * len(held) + 16 <= SEED_SHARE_MAX
    assert seeds.count(places, tolerated) <= 256

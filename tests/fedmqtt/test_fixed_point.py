import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmqtt.fixed_point import (
    REMEMBERED_MAX,
    ExactSum,
    fraction_bits,
    on_grid,
    remembered_bits,
    squared_norm,
)
from fedmqtt.weights import Array

CHANGE_MAX, WEIGHT_MAX, TERMS_MAX = 4.0, 1000, 20
BITS = fraction_bits(CHANGE_MAX, WEIGHT_MAX, TERMS_MAX)
SIZE = 5
VALUES = arrays(np.float32, SIZE, elements=st.floats(-CHANGE_MAX, CHANGE_MAX, width=32))
TERMS = st.lists(st.tuples(VALUES, st.integers(1, WEIGHT_MAX)), min_size=1, max_size=TERMS_MAX)
Terms = list[tuple[Array, int]]


def sum_of(terms: Terms, bits: int = BITS) -> ExactSum:
    running = ExactSum(terms[0][0].size if terms else SIZE, bits)
    for values, weight in terms:
        running.add(values, weight)
    return running


@given(TERMS, st.randoms(use_true_random=False))
def test_any_order_gives_the_same_bits(terms: Terms, chance: object) -> None:
    shuffled = list(terms)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = sum_of(terms), sum_of(shuffled)
    assert one.total.tobytes() == other.total.tobytes()
    assert one.mean().tobytes() == other.mean().tobytes()


@given(TERMS, st.data())
def test_any_split_over_several_sums_gives_the_same_bits(terms: Terms, data: st.DataObject) -> None:
    workers = [ExactSum(SIZE, BITS) for _ in range(3)]
    for values, weight in terms:
        data.draw(st.sampled_from(workers)).add(values, weight)
    whole = sum_of(terms)
    total = workers[0].total + workers[1].total + workers[2].total
    assert total.tobytes() == whole.total.tobytes()
    assert sum(worker.weight for worker in workers) == whole.weight


@given(TERMS)
def test_the_mean_is_within_the_bound_of_the_true_one(terms: Terms) -> None:
    weight = sum(weight for _, weight in terms)
    mean = sum_of(terms).mean()
    rounding = Fraction(len(terms), weight * 2 ** (BITS + 1))
    for place in range(SIZE):
        parts = [Fraction(float(values[place])) * w for values, w in terms]
        true = sum(parts, Fraction(0)) / weight
        # And what a double cannot say of the result itself: three roundings.
        in_double = abs(true) * Fraction(3, 2**52) + Fraction(1, 2**1000)
        assert abs(Fraction(float(mean[place])) - true) <= rounding + in_double


@given(
    st.floats(1e-3, 1e6),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.sampled_from([-1.0, 1.0]),
)
def test_the_bounds_themselves_cannot_overflow(
    change_max: float, weight_max: int, terms_max: int, sign: float
) -> None:
    change = np.float32(change_max)
    bits = fraction_bits(float(change), weight_max, terms_max)
    running = ExactSum(1, bits)
    running.add(np.array([sign * change], np.float32), weight_max)
    term = int(running.total[0])
    assert term == round(Fraction(float(change)) * weight_max * 2**bits) * int(sign)
    assert abs(term) * terms_max < 2**63, "all the clients at their bounds fit 64 bits"


def test_as_many_fraction_bits_as_fit_and_no_more_than_a_double_has() -> None:
    assert fraction_bits(1.0, 1, 1) == 52
    assert fraction_bits(1.0, 2**20, 2**10) == 32
    assert fraction_bits(1.0, 2**20, 2**10 + 1) == 31
    assert fraction_bits(1.0, 1, 0) == 52
    assert fraction_bits(2.0, 2**30, 2**30) == 1


def test_bounds_that_leave_no_fraction_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 64 bits"):
        fraction_bits(4.0, 2**30, 2**30)


def test_two_clients_by_hand() -> None:
    ann, bob = np.array([1.0, -2.0], np.float32), np.array([4.0, 0.5], np.float32)
    running = sum_of([(ann, 1), (bob, 3)], bits=8)
    assert running.total.tolist() == [(1 * 1 + 3 * 4) * 256, (-2 + 1.5) * 256]
    assert running.mean().tolist() == [3.25, -0.125]


@given(st.lists(st.tuples(VALUES, st.sets(st.integers(0, SIZE - 1)), st.integers(1, WEIGHT_MAX))))
def test_what_is_added_at_places_is_what_is_added_with_zeros_elsewhere(
    terms: list[tuple[Array, set[int], int]],
) -> None:
    alone, whole = ExactSum(SIZE, BITS), ExactSum(SIZE, BITS)
    # Clients of a round have one array in common.
    arrays_of = {frozenset(places): np.array(sorted(places), np.int64) for _, places, _ in terms}
    for values, chosen, weight in terms:
        places = arrays_of[frozenset(chosen)]
        alone.add_at(places, values[places], weight)
        rest = np.setdiff1d(np.arange(SIZE), places)
        zeroed = values.copy()
        zeroed[rest] = 0
        whole.add(zeroed, weight)
        alone.add(values, weight)
        whole.add(values, weight)
    assert alone.total.tobytes() == whole.total.tobytes()
    assert alone.weight == whole.weight


def test_halves_round_to_even_in_both_directions() -> None:
    values = np.array([0.5, 1.5, -0.5, -1.5, 0.25], np.float32)
    assert sum_of([(values, 1)], bits=0).total.tolist() == [0, 2, 0, -2, 0]


def test_a_vector_of_several_blocks_is_added_block_by_block() -> None:
    size = 2 * 32_768 + 7
    values = np.random.default_rng(1).uniform(-4, 4, size).astype(np.float32)
    running = sum_of([(values, 3), (values, 5)])
    wide = values.astype(np.float64)
    terms = [np.rint(wide * math.ldexp(weight, BITS)).astype(np.int64) for weight in (3, 5)]
    np.testing.assert_array_equal(running.total, terms[0] + terms[1])


def test_a_float_sum_differs_where_ours_does_not() -> None:
    # The reason for all this: the same terms, forwards and backwards.
    chance = np.random.default_rng(0)
    terms: Terms = [(chance.uniform(-4, 4, 200).astype(np.float32), 1) for _ in range(20)]
    forwards, backwards = np.zeros(200, np.float32), np.zeros(200, np.float32)
    for (values, _), (other, _) in zip(terms, terms[::-1], strict=True):
        forwards, backwards = forwards + values, backwards + other
    assert forwards.tobytes() != backwards.tobytes()
    assert sum_of(terms).mean().tobytes() == sum_of(terms[::-1]).mean().tobytes()


def test_a_squared_norm_is_the_same_wherever_the_numbers_lie_in_memory() -> None:
    values = np.random.default_rng(0).normal(0, 3, 100_003).astype(np.float32)
    wanted = squared_norm(values)
    assert wanted == pytest.approx(math.fsum(float(value) ** 2 for value in values), rel=1e-12)
    for offset in range(1, 9):
        # In a message numbers begin at any byte.
        moved = np.frombuffer(bytes(offset) + values.tobytes(), np.uint8)[offset:].view(np.float32)
        assert squared_norm(moved) == wanted
    assert squared_norm(np.empty(0, np.float32)) == 0.0


@pytest.mark.parametrize("change_max", [1e-6, 0.3, 1.0, 64.0, 65.0, 1e9])
def test_twice_the_largest_change_can_be_remembered_as_finely_as_fits(change_max: float) -> None:
    bits = remembered_bits(change_max)
    largest = int(on_grid(np.array([change_max], np.float32), bits)[0])
    assert 2 * largest <= REMEMBERED_MAX < 4 * largest + 4


def test_the_grid_is_the_nearest_whole_multiple() -> None:
    values = np.array([0.25, -0.3, 0.375, 0.125, 100.0], np.float32)
    assert on_grid(values, 2).tolist() == [1, -1, 2, 0, 400]


def test_a_share_moves_less_and_makes_nothing_else_count_for_more() -> None:
    # By hand: (2 * 4 * 0.25 + 6 * 1) / (2 + 6) = 1
    running = ExactSum(1, BITS)
    running.add(np.array([4], np.float32), 2, 0.25)
    running.add(np.array([1], np.float32), 6)
    assert running.mean().tolist() == [1.0]


def test_sums_of_parts_add_up_to_the_sum_of_all() -> None:
    values = np.random.default_rng(1).normal(0, 3, (6, 4)).astype(np.float32)
    whole = ExactSum(4, 30)
    for number, one in enumerate(values):
        whole.add(one, number + 1)
    total = ExactSum(4, 30)
    for some in ([0, 4], [5], [1, 2, 3]):
        part = ExactSum(4, 30)
        for number in some:
            part.add(values[number], number + 1)
        total.add_total(part.total, part.weight)
    assert total.total.tobytes() == whole.total.tobytes()
    assert total.weight == whole.weight == 21

"""What clients measure adds up to the plain whole numbers, exactly and at all limits."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.masking import measured, values
from fedmqtt.masking.measured import SAMPLES_MAX, VALUE_MAX, MeasuredSum
from fedmqtt.masking.packing import Words
from fedmqtt.messages import (
    MASKED_CLASSES_MAX,
    MASKED_METRICS_MAX,
    Confusion,
    Masking,
    Measures,
    Open,
)
from tests.fedmqtt.masking.cohort import masking

HOW = masking(metrics=("loss", "mae"), classes=2)
STEPS = 2**24


def _measures(samples: int, confusion: Any = None, **metrics: float) -> Measures:
    return Measures(sample_count=samples, metrics=metrics, confusion=confusion)


def _told(how: Masking, words: Words) -> MeasuredSum:
    found = measured.from_sum(how, words)
    assert found is not None
    return found


def _sum(how: Masking, all_of_them: list[Measures | None]) -> MeasuredSum:
    total = np.zeros(measured.size(how), np.uint32)
    for one in all_of_them:
        total += measured.to_words(how, one)
    return _told(how, total)


def test_numbers_small_enough_to_check_by_hand() -> None:
    ann = _measures(4, ((1, 1), (0, 2)), loss=0.5, mae=-3.0)
    bob = _measures(12, ((5, 1), (2, 4)), loss=0.25, mae=1.0)
    found = _sum(HOW, [ann, bob])
    assert (found.clients, found.clipped, found.samples) == (2, 0, 16)
    assert found.metrics["loss"].total == (4 * 0.5 + 12 * 0.25) * STEPS
    assert found.metrics["loss"].mean == 5 / 16
    assert found.metrics["mae"].mean == 0.0
    assert found.classified == 2 and found.confusion == ((6, 2), (2, 6))


def test_who_measures_otherwise_sends_zeros_for_what_it_lacks() -> None:
    alike = _measures(10, ((5, 0), (0, 5)), loss=1.0, mae=2.0)
    others = [
        _measures(30, None, loss=2.0),
        _measures(50, ((1, 0, 0), (0, 1, 0), (0, 0, 48)), mae=math.nan, f1=0.5),
        None,
    ]
    found = _sum(HOW, [alike, *others])
    assert (found.clients, found.samples) == (3, 90)
    loss, mae = found.metrics["loss"], found.metrics["mae"]
    assert (loss.clients, loss.samples, loss.mean) == (2, 40, 70 / 40)
    assert (mae.clients, mae.samples, mae.mean) == (1, 10, 2.0)
    assert found.classified == 1 and found.confusion == ((5, 0), (0, 5))


@pytest.mark.parametrize(
    "confusion",
    [((3, 1), (0, 5)), ((11, -1), (0, 0)), ((10, 0),), ((10,), (0,)), ((5, 5), ()), ()],
)
def test_a_matrix_that_is_none_is_not_counted(confusion: Confusion) -> None:
    found = _sum(HOW, [_measures(10, confusion, loss=1.0)])
    assert found.classified == 0 and found.confusion == ((0, 0), (0, 0))
    assert found.metrics["loss"].mean == 1.0


@pytest.mark.parametrize("value", [VALUE_MAX * 2, math.inf, -math.inf, -1e300])
def test_what_is_out_of_range_is_clipped_and_counted(value: float) -> None:
    found = _sum(HOW, [_measures(3, None, loss=value), _measures(1, None, loss=0.0)])
    assert found.clipped == 1
    assert found.metrics["loss"].mean == math.copysign(VALUE_MAX * 3 / 4, value)


def test_more_samples_than_count_are_told_as_so_many_in_proportion() -> None:
    many = 1_000_000
    found = _sum(HOW, [_measures(many, ((700_000, 100_001), (0, 199_999)), loss=1.5)])
    assert (found.clipped, found.samples) == (1, SAMPLES_MAX)
    assert found.metrics["loss"].mean == 1.5
    wanted = np.array([[700_000, 100_001], [0, 199_999]]) * SAMPLES_MAX / many
    assert np.abs(np.array(found.confusion) - wanted).max() < 1
    assert sum(map(sum, found.confusion)) == SAMPLES_MAX and found.confusion[1][0] == 0


def test_no_sum_of_as_many_clients_as_a_round_may_invite_wraps() -> None:
    how = masking(metrics=("high", "low"), classes=1)
    most = _measures(SAMPLES_MAX, ((SAMPLES_MAX,),), high=VALUE_MAX, low=-VALUE_MAX)
    clients = values.CLIPPED_MAX - 1
    # All alike: their sum modulo 2^32 is a product modulo 2^32.
    words: Words = measured.to_words(how, most) * np.uint32(clients)
    found = _told(how, words)
    samples = SAMPLES_MAX * clients
    assert (found.clients, found.samples) == (clients, samples)
    assert found.metrics["high"].total == samples * int(VALUE_MAX) * STEPS
    assert found.metrics["low"].total == -samples * int(VALUE_MAX) * STEPS
    assert found.metrics["high"].mean == VALUE_MAX and found.metrics["low"].mean == -VALUE_MAX
    assert found.metrics["high"].is_possible and found.metrics["low"].is_possible
    assert found.confusion == ((samples,),)


_VALUES = st.one_of(
    st.floats(allow_nan=False),
    st.floats(-10, 10),
    st.sampled_from([VALUE_MAX, -VALUE_MAX, VALUE_MAX - 2**-24, 2**-25, -(2.0**-25), 0.0]),
)


@st.composite
def _clients(draw: st.DrawFn) -> Measures | None:
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    names = draw(st.sets(st.sampled_from(["loss", "mae", "other"])))
    values_ = {name: draw(_VALUES) for name in sorted(names)}
    if draw(st.booleans()):
        return _measures(draw(st.sampled_from([1, 7, SAMPLES_MAX, 10**9])), None, **values_)
    sizes = st.sampled_from([0, 1, 7, SAMPLES_MAX // 4])
    a, b, c, d = draw(st.tuples(sizes, sizes, sizes, sizes).filter(any))
    return _measures(a + b + c + d, ((a, b), (c, d)), **values_)


@given(st.lists(_clients(), max_size=12), st.integers(0, 2**32 - 1))
def test_unmasked_sums_are_those_of_the_plain_whole_numbers(
    clients: list[Measures | None], seed: int
) -> None:
    masks = np.random.default_rng(seed).integers(2**32, size=(13, measured.size(HOW)))
    total = masks.sum(axis=0).astype(np.uint32)
    for one in clients:
        total += measured.to_words(HOW, one)
    for mask in masks.astype(np.uint32):
        total -= mask
    found = _told(HOW, total)
    there = [one for one in clients if one is not None]
    counted = [min(one.sample_count, SAMPLES_MAX) for one in there]
    assert (found.clients, found.samples) == (len(there), sum(counted))
    for name in HOW.metrics:
        terms = [
            (count, round(max(-VALUE_MAX, min(VALUE_MAX, one.metrics[name])) * STEPS))
            for one, count in zip(there, counted, strict=True)
            if name in one.metrics
        ]
        told = found.metrics[name]
        assert (told.clients, told.samples) == (len(terms), sum(count for count, _ in terms))
        assert told.total == sum(count * steps for count, steps in terms)
        assert not told.samples or told.is_possible
    matrices = [np.array(one.confusion) for one in there if one.confusion]
    plain = sum(matrices, np.zeros((2, 2), int))
    assert found.classified == len(matrices)
    assert found.confusion == tuple(map(tuple, plain.tolist()))


@given(st.tuples(*[st.sampled_from([0, 1, 65_535, 65_536, 10**9, 2**53])] * 4).filter(any))
def test_the_share_of_each_cell_is_kept_to_one_sample(cells: tuple[int, ...]) -> None:
    total = sum(cells)
    found = _sum(HOW, [_measures(total, (cells[:2], cells[2:]))])
    told = [cell for row in found.confusion for cell in row]
    assert sum(told) == found.samples == min(total, SAMPLES_MAX)
    for cell, one in zip(cells, told, strict=True):
        assert abs(one * total - cell * found.samples) < total


@given(st.binary(min_size=4 * 20, max_size=4 * 20))
def test_whatever_the_words_are_they_are_read(data: bytes) -> None:
    words = np.frombuffer(data, "<u4").astype(np.uint32)
    found = _told(HOW, words)
    assert all(0 <= cell < 2**32 for row in found.confusion for cell in row)
    assert all(math.isfinite(one.mean) for one in found.metrics.values() if one.samples)


def test_a_tail_without_measures_is_what_it_was() -> None:
    how = masking()
    assert not how.is_measured and values.tail_size(how, 100) == values.COUNTS
    assert measured.to_words(how, _measures(10, loss=1.0)).size == 0
    assert measured.from_sum(how, np.zeros(100, np.uint32)) is None


def test_the_largest_tail_fits_the_message_to_keyholders() -> None:
    names = tuple(f"m{number}" for number in range(MASKED_METRICS_MAX))
    how = masking(metrics=names, classes=MASKED_CLASSES_MAX)
    (bound,) = (
        limit.le for limit in Open.__annotations__["tail"].__metadata__ if limit.le is not None
    )
    assert values.tail_size(how, 100) <= bound

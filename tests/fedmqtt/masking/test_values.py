"""Changes become whole numbers whose sum cannot wrap, and come back within the stated error."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedmqtt import rotation
from fedmqtt.codecs import part
from fedmqtt.masking import values
from fedmqtt.masking.packing import Words
from fedmqtt.masking.values import COUNTS, NotASum
from fedmqtt.messages import Masking
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import CLIENTS, chances, masking

SHARED = chances(CLIENTS[0]).shared


def _change(size: int, seed: int = 0, scale: float = 0.1) -> Array:
    drawn = np.random.default_rng(seed).normal(scale=scale, size=size)
    return drawn.astype(np.float32)


def _whole(words: Words) -> Words:
    """The body as whole numbers, with their sign."""
    return words[:-COUNTS].view(np.int32)


def _sum(how: Masking, changes: list[Array], samples: list[int]) -> Words:
    total = np.zeros(values.body_size(how, changes[0].size) + COUNTS, np.uint32)
    for name, change, count in zip(CLIENTS, changes, samples, strict=False):
        total += values.to_words(how, change, count, chances(name))
    return total


def test_numbers_small_enough_to_check_by_hand() -> None:
    # L = 7, so a step is 1/7.
    how = masking(value_bits=4, bits=8, change_max=1.0)
    change = np.array([1.0, -1.0, 0.0, 3 / 7, 5.0, -2.0], np.float32)
    words = values.to_words(how, change, 1, chances(CLIENTS[0]))
    assert _whole(words).tolist() == [7, -7, 0, 3, 7, -7]
    weight, clipped, norms_clipped = words[-COUNTS:].tolist()
    assert (weight, clipped, norms_clipped) == (1, 2, 0)
    found = values.from_sum(how, words, 6, 1, SHARED)
    assert np.allclose(found.change, [1, -1, 0, 3 / 7, 1, -1], rtol=0, atol=1e-15)
    assert (found.weight, found.clipped, found.norms_clipped) == (1, 2, 0)


@pytest.mark.parametrize("value_bits", [9, 16, 24])
@pytest.mark.parametrize("weight_max", [1, 255])
def test_the_mean_is_off_by_what_is_stated_at_most(value_bits: int, weight_max: int) -> None:
    how = masking(
        value_bits=value_bits, bits=32, change_max=0.5, weight_max=weight_max, samples_max=100
    )
    changes = [_change(1000, seed) for seed in range(5)]
    samples = [1, 10, 50, 100, 5000]
    found = values.from_sum(how, _sum(how, changes, samples), 1000, 5, SHARED)
    weights = [values.weight(how, count) for count in samples]
    clipped = [np.clip(change.astype(np.float64), -0.5, 0.5) for change in changes]
    mean = np.average(clipped, axis=0, weights=weights)
    step = weight_max * 0.5 / values.level_max(value_bits)
    assert np.abs(found.change - mean).max() <= step / 2 * 5 / sum(weights) * (1 + 1e-9)
    assert found.weight == sum(weights)
    assert found.clipped == sum(int((np.abs(change) > 0.5).sum()) for change in changes)


def test_few_bits_are_rounded_at_random_and_right_on_average() -> None:
    how = masking(value_bits=2, bits=8, change_max=1.0)
    change = np.linspace(-1, 1, 41, dtype=np.float32)
    total = np.zeros(41)
    for number in range(4000):
        words = values.to_words(how, change, 1, chances(ClientId(f"n{number}")))
        whole = _whole(words).astype(np.float64)
        assert np.abs(whole - change).max() < 1
        total += whole
    # Five standard deviations of a mean of 4,000, each of 1/4 at most.
    assert np.abs(total / 4000 - change).max() < 5 * math.sqrt(0.25 / 4000)


@pytest.mark.parametrize(
    ("samples", "weight"), [(0, 1), (1, 1), (39, 10), (500, 128), (1000, 255), (10**9, 255)]
)
def test_samples_count_up_to_a_maximum_and_everybody_for_something(
    samples: int, weight: int
) -> None:
    assert values.weight(masking(weight_max=255, samples_max=1000), samples) == weight
    assert values.weight(masking(), samples) == 1


@given(
    st.integers(2, 24),
    st.integers(1, 4096),
    st.integers(1, 8),
)
def test_a_modulus_has_room_for_the_largest_sum_and_not_twice_that(
    value_bits: int, terms: int, times_max: int
) -> None:
    highest = values.level_max(value_bits) * terms * times_max
    assume(2 * highest + 1 <= 2**32)
    bits = values.bits_needed(value_bits, terms, times_max)
    # From -highest to highest: all different.
    assert 2 * highest + 1 <= 2**bits
    assert bits == values.BITS_MIN or 2 * highest + 1 > 2 ** (bits - 1)


def test_sums_that_no_word_holds_are_refused_and_say_why() -> None:
    with pytest.raises(ValueError, match="4096 values of 24 bits, each 8 times, take 39 bits"):
        values.bits_needed(24, 4096, 8)
    assert values.bits_needed(20, 4096) == 32


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("value_bits", "terms", "times"), [(20, 4096, 1), (17, 4096, 8), (4, 9, 3)]
)
@pytest.mark.parametrize("weight_max", [1, 255])
def test_nothing_wraps_when_everybody_sends_the_largest_value(
    sign: int, value_bits: int, terms: int, times: int, weight_max: int
) -> None:
    bits = values.bits_needed(value_bits, terms, times)
    how = masking(
        value_bits=value_bits, bits=bits, change_max=0.25, weight_max=weight_max, samples_max=10
    )
    change = np.full(5, sign * 1e9, np.float32)
    words = values.to_words(how, change, 10**6, chances(CLIENTS[0]))
    assert (_whole(words) == sign * values.level_max(value_bits)).all()
    found = values.from_sum(how, words * np.uint32(terms * times), 5, terms * times, SHARED)
    assert np.allclose(found.change, sign * 0.25, rtol=1e-12, atol=0)
    assert found.weight == weight_max * terms * times
    assert found.clipped == 5 * terms * times


@given(st.integers(4, 32), st.data())
def test_centred_numbers_are_what_they_were(bits: int, data: st.DataObject) -> None:
    half = 2 ** (bits - 1)
    wanted = data.draw(st.lists(st.integers(-half, half - 1), min_size=1, max_size=20))
    # Whatever stands above the modulus.
    above = data.draw(st.integers(0, 2 ** (32 - bits) - 1)) << bits
    words = np.array([(one % 2**bits) | above for one in wanted], np.uint32)
    assert values.centred(words, bits).tolist() == wanted


def test_a_change_that_is_too_long_is_made_as_long_as_it_may_be() -> None:
    how = masking(norm_max=0.5, value_bits=20, bits=32)
    long, short = _change(1000), _change(1000, scale=0.001)
    found = values.from_sum(how, _sum(how, [long], [1]), 1000, 1, SHARED)
    assert found.norms_clipped == 1
    assert np.linalg.norm(found.change) == pytest.approx(0.5, rel=1e-4)
    assert np.allclose(found.change / 0.5, long / np.linalg.norm(long), atol=1e-4)
    assert values.from_sum(how, _sum(how, [short], [1]), 1000, 1, SHARED).norms_clipped == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e9])
@pytest.mark.parametrize("how", [masking(), masking(rotate=True, value_bits=4)], ids=["", "rotate"])
def test_a_change_that_is_no_change_is_refused(bad: float, how: Masking) -> None:
    change = _change(100)
    change[50] = bad
    with pytest.raises(ValueError, match="not finite, or above"):
        values.to_words(how, change, 1, chances(CLIENTS[0]))


@pytest.mark.parametrize(
    ("size", "share", "rotate", "body"),
    [
        (1000, 1.0, False, 1000),
        (1000, 0.25, False, 250),
        (1001, 0.25, False, 251),
        (1000, 1.0, True, 1024),
        (1025, 1.0, True, 1024 + 256),
        (4000, 0.25, True, 1024),
    ],
)
def test_a_body_has_as_many_values_as_are_sent(
    size: int, share: float, rotate: bool, body: int
) -> None:
    how = masking(share=share, rotate=rotate)
    assert values.body_size(how, size) == body
    words = values.to_words(how, _change(size), 1, chances(CLIENTS[0]))
    assert words.shape == (body + COUNTS,)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_share_comes_back_where_it_was_drawn(scaled: bool) -> None:
    how = masking(share=0.3, value_bits=20, bits=32)
    change = _change(1003)
    words = values.to_words(how, change, 1, chances(CLIENTS[0]))
    found = values.from_sum(how, words, 1003, 1, SHARED, scaled).change
    stage = part.Stage(share=0.3, scaled=scaled)
    wanted = np.zeros(1003)
    wanted[stage.places(1003, SHARED)] = stage.take(change, SHARED)
    assert np.abs(found - wanted).max() <= 4 / values.level_max(20)
    assert np.count_nonzero(found) == math.ceil(0.3 * 1003)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_rotated_values_come_back(share: float) -> None:
    how = masking(share=share, rotate=True, value_bits=16, bits=32, change_max=2.0)
    change = _change(5000)
    words = values.to_words(how, change, 1, chances(CLIENTS[0]))
    found = values.from_sum(how, words, 5000, 1, SHARED, scaled=False).change
    places = part.Stage(share=share).places(5000, SHARED) if share < 1 else np.arange(5000)
    # Each of 1,024 rounding errors of a block, of half a step at most, goes into each number.
    assert np.abs(found[places] - change[places]).max() < 2 / values.level_max(16) * 5
    assert np.linalg.norm(found[places] - change[places]) <= 0.5 * 2 / values.level_max(
        16
    ) * math.sqrt(places.size)


def test_taking_a_rotation_back_is_exact_on_sums() -> None:
    size = 1024 + 300
    padded = rotation.padded(size)
    rng = np.random.default_rng(0)
    sums = rng.integers(-(2**31), 2**31, padded)
    found = sums.astype(np.float64)
    rotation.inverse(found, np.ones(2), SHARED)
    # Back again in whole numbers: H D2 H D1 of it, times the width once more.
    bits = SHARED.words("rotation", 2 * padded // 64).view(np.uint8).reshape(2, -1)
    signs = np.unpackbits(bits, axis=1).astype(np.int64) * 2 - 1
    for start, width in ((0, 1024), (1024, padded - 1024)):
        hadamard = np.ones((1, 1), np.int64)
        while len(hadamard) < width:
            hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
        of = slice(start, start + width)
        plain = (hadamard @ (signs[1, of] * (hadamard @ sums[of]))) * signs[0, of]
        assert np.array_equal(found[of] * width, plain)


def test_each_block_has_a_range_of_its_own() -> None:
    how = masking(ranges=(1.0, 0.01), value_bits=10, bits=16, change_max=77.0)
    change = np.concatenate([np.full(1024, 0.9), np.full(500, 0.009)]).astype(np.float32)
    words = values.to_words(how, change, 1, chances(CLIENTS[0]))
    assert set(_whole(words).tolist()) == {460}
    found = values.from_sum(how, words, change.size, 1, SHARED).change
    assert np.abs(found - change)[:1024].max() <= 1.0 / 511 / 2
    assert np.abs(found - change)[1024:].max() <= 0.01 / 511 / 2


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7])
def test_ranges_that_are_fewer_or_more_than_blocks_are_of_successive_ones(number: int) -> None:
    ranges = tuple(0.1 * (one + 1) for one in range(number))
    how = masking(ranges=ranges, value_bits=16, bits=24)
    size = 5 * 1024
    words = values.to_words(how, np.full(size, 10.0, np.float32), 1, chances(CLIENTS[0]))
    found = values.from_sum(how, words, size, 1, SHARED).change.reshape(5, 1024)
    # All are clipped to their block's range.
    assert np.allclose(found, found[:, :1], rtol=1e-12)
    wanted = [ranges[block * number // 5] for block in range(5)]
    assert np.allclose(found[:, 0], wanted, rtol=1e-12)


def test_more_clipped_numbers_than_are_told_of_do_not_run_over() -> None:
    how = masking()
    size = values.CLIPPED_MAX + 100
    words = values.to_words(how, np.full(size, 9.0, np.float32), 1, chances(CLIENTS[0]))
    assert words[-COUNTS:].tolist() == [1, values.CLIPPED_MAX, 0]


TAILS: dict[str, Any] = {
    "too light": (4, 0, 0),
    "too heavy": (5 * 255 + 1, 0, 0),
    "negative": (2**32 - 3, 0, 0),
    "clipped more than there are": (10, 5 * 20 + 1, 0),
    "longer than are there": (10, 0, 6),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS.keys())
def test_a_tail_that_these_clients_cannot_have_sent_is_noticed(tail: tuple[int, ...]) -> None:
    how = masking(weight_max=255, samples_max=10)
    words = np.zeros(20 + COUNTS, np.uint32)
    words[-COUNTS:] = tail
    with pytest.raises(NotASum, match="a sum of 5 answers"):
        values.from_sum(how, words, 20, 5, SHARED)


@pytest.mark.parametrize("tail", [(5, 0, 0), (5 * 255, 100, 5)])
def test_a_tail_at_its_limits_is_none_to_wonder_at(tail: tuple[int, ...]) -> None:
    how = masking(weight_max=255, samples_max=10)
    words = np.zeros(20 + COUNTS, np.uint32)
    words[-COUNTS:] = tail
    assert values.from_sum(how, words, 20, 5, SHARED).weight == tail[0]


def test_what_is_rounded_at_random_is_the_same_each_time_and_another_for_each_client() -> None:
    how = masking(value_bits=3, bits=8)
    change = _change(1000)
    first, again, other = (
        values.to_words(how, change, 1, cohort.chances(name))
        for name in (CLIENTS[0], CLIENTS[0], CLIENTS[1])
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)

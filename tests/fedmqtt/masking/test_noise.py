"""Noise under seeds: what is opened is the sum and the noise of each seed, to the bit."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from coordinator.masking.masked_sum import MaskedSum
from fedmqtt import noise_promise
from fedmqtt.masking import noise, packing, seeds, values
from fedmqtt.masking.masks import add_mask, stream
from fedmqtt.messages import Masking
from fedmqtt.topics import RoundId
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import CLIENTS, FEDERATION, ROUND, RUN, Answer, chances, masking

SIZE = 400
LIST = b"L" * 32


def _noised(places: int = 3, tolerated: int = 1, **changes: Any) -> Masking:
    plain: dict[str, Any] = {"norm_max": 0.5, "noise": 2.0, "norm_steps": 16383, "bits": 28}
    return masking(places, tolerated, **plain | changes)


def _change(seed: int, norm: float = 0.4) -> Any:
    drawn = np.random.default_rng(seed).normal(size=SIZE)
    return (drawn * (norm / np.linalg.norm(drawn))).astype(np.float32)


def _answers(how: Masking, count: int = 4) -> list[Answer]:
    return [cohort.answer(how, name, _change(n)) for n, name in enumerate(CLIENTS[:count])]


def _seeds(how: Masking, number: int, answers: list[Answer]) -> list[bytes]:
    """Of this number, of all of them: as its first holder opens them."""
    held = seeds.held_by(how.places, how.tolerated)
    place = next(place for place, those in enumerate(held) if number in those)
    return [cohort.keys_of(how, place, one.entry)[number] for one in answers]


def _key(how: Masking, number: int, answers: list[Answer], list_digest: bytes = LIST) -> bytes:
    given = _seeds(how, number, answers)
    return noise.key(given, FEDERATION, RUN, ROUND, list_digest, number)


def _opened(how: Masking, answers: list[Answer]) -> packing.Words:
    """By keyholders that add noise, as it crosses the broker."""
    size = SIZE + values.COUNTS
    total = MaskedSum(SIZE, values.COUNTS, how.bits)
    for one in answers:
        total.add(one.payload)
    sums = []
    for number in range(seeds.count(how.places, how.tolerated)):
        words = np.zeros(size, np.uint32)
        for seed in _seeds(how, number, answers):
            add_mask(words, seed)
        noise.subtract(words, how, _key(how, number, answers))
        sums.append(words)
    told = b"".join(packing.to_payload(one, SIZE, how.bits) for one in sums)
    return total.open(packing.from_payloads(told, len(sums), SIZE, values.COUNTS, how.bits))


@pytest.mark.parametrize(("places", "tolerated"), [(1, 0), (3, 1), (4, 2)])
@pytest.mark.parametrize("indicator", [0.0, 9.0])
def test_what_is_opened_is_the_sum_and_the_noise_of_each_seed(
    places: int, tolerated: int, indicator: float
) -> None:
    how = _noised(places, tolerated, indicator=indicator)
    answers = _answers(how)
    opened = _opened(how, answers)
    size = SIZE + values.COUNTS
    wanted = np.sum([one.words.view(np.int32).astype(np.int64) for one in answers], axis=0)
    for number in range(seeds.count(places, tolerated)):
        wanted = wanted + noise.of_key(how, _key(how, number, answers), size)
    found = values.centred(opened[:SIZE], how.bits).astype(np.int64)
    assert np.array_equal(found, wanted[:SIZE])
    assert np.array_equal(opened[SIZE:].view(np.int32), wanted[SIZE:])
    mean = values.from_sum(how, opened, SIZE, 4, chances(CLIENTS[0]).shared)
    step = how.change_max / values.level_max(how.value_bits)
    assert np.allclose(mean.change, wanted[:SIZE] * step / 4, rtol=1e-12, atol=0)
    assert (mean.weight, mean.clipped, mean.norms_clipped) == (4, 0, 0)
    told = noise_promise.indicator_steps(how)
    assert mean.balance == (wanted[-1] / (4 * told) if told else 0.0)


def test_behind_the_numbers_nothing_is_told_but_the_indicator() -> None:
    up, down = _change(1), _change(1, norm=0.6)
    for indicator in (0.0, 9.0):
        how = _noised(indicator=indicator)
        told = noise_promise.indicator_steps(how)
        for change, wanted in ((up, told), (down, -told)):
            words = values.to_words(how, change, 10**6, chances(CLIENTS[0]))
            assert words[-values.COUNTS :].view(np.int32).tolist() == [1, 0, wanted]
    clipped = np.zeros(SIZE, np.float32)
    clipped[:9] = 5.0
    assert values.to_words(how, clipped, 1, chances(CLIENTS[0]))[-2] == 0


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("value_bits", [4, 8, 9, 16])
def test_no_answer_is_longer_than_noise_hides(rotate: bool, value_bits: int) -> None:
    how = _noised(norm_steps=60, value_bits=value_bits, rotate=rotate, change_max=0.25)
    changes = [_change(seed, norm) for seed, norm in enumerate((0.1, 0.5, 3.0, 1e9))]
    # No longer than it may be, and all of it in one number, which is larger than a number may be.
    one_number = np.zeros(SIZE, np.float32)
    one_number[7] = 0.5
    for change in (*changes, one_number, -one_number):
        words = values.to_words(how, change, 1, chances(CLIENTS[0]))
        body = words[: -values.COUNTS].view(np.int32).astype(np.int64)
        assert int((body**2).sum()) <= 60**2
        assert np.abs(body).max() <= values.level_max(value_bits)


def test_all_holders_of_a_seed_make_the_same_noise_and_nobody_else_can() -> None:
    how = _noised()
    answers = _answers(how)
    held = seeds.held_by(3, 1)
    for number in range(3):
        keys = {
            noise.key(
                [cohort.keys_of(how, place, one.entry)[number] for one in answers],
                *(FEDERATION, RUN, ROUND, LIST, number),
            )
            for place in range(3)
            if number in held[place]
        }
        assert keys == {_key(how, number, answers)}
    # All keyholders but those that lack it need each client's seed: with one unknown, no key.
    given = _seeds(how, 0, answers)
    without = [given[0], given[1], given[2], bytes(32)]
    assert noise.key(without, FEDERATION, RUN, ROUND, LIST, 0) != _key(how, 0, answers)


def test_every_other_list_round_run_and_seed_has_other_noise() -> None:
    given = [bytes([n]) * 32 for n in range(3)]
    told: list[Any] = [given, FEDERATION, RUN, ROUND, LIST, 0]
    others: list[Any] = [given[:2], "ward-8", "r2", RoundId(8), b"M" * 32, 1]
    keys = [noise.key(*told)]
    for at, other in enumerate(others):
        keys.append(noise.key(*[*told[:at], other, *told[at + 1 :]]))
    keys.append(noise.key(given[::-1], *told[1:]))
    drawn = [noise.of_key(_noised(), key, 300) for key in keys]
    for one, other in itertools.combinations(drawn, 2):
        # Independent: five standard errors.
        assert abs(float((one * other).mean())) < 5 * 32766**2 / math.sqrt(300)
    assert noise.key(*told) == keys[0]


def test_noise_has_the_deviation_that_is_promised_and_its_shape() -> None:
    how = _noised(noise=1.0, norm_steps=50)
    drawn = noise.of_key(how, bytes(32), 200_000)
    assert abs(drawn.mean()) < 5 * 50 / math.sqrt(drawn.size)
    assert abs((drawn / 50.0).var() - 1) < 5 * math.sqrt(2 / drawn.size)
    # Chi-square over 300 cells: the exact masses of a discrete Gaussian.
    places = np.arange(-150, 151)
    masses = np.exp(-(places**2) / (2 * 50.0**2))
    expected = drawn.size * masses / np.exp(-(np.arange(-900, 901) ** 2) / (2 * 50.0**2)).sum()
    found = np.bincount(drawn[np.abs(drawn) <= 150] + 150, minlength=301)
    square = float(((found - expected) ** 2 / expected).sum())
    assert 301 - 5 * math.sqrt(602) < square < 301 + 5 * math.sqrt(602)


def test_cut_in_pieces_or_whole_it_is_the_same_noise() -> None:
    how = _noised()
    words = np.zeros(100_000, np.uint32)
    noise.subtract(words, how, bytes(32))
    whole = noise.of_key(how, bytes(32), 100_000)
    assert np.array_equal(-words.view(np.int32).astype(np.int64), whole)
    assert stream(bytes(32))(8) == stream(bytes(32))(4) + stream(bytes(32))(8)[4:]


def test_noise_on_many_seeds_adds_up_in_variance() -> None:
    how = _noised(4, 2)
    keys = [bytes([n]) * 32 for n in range(6)]
    total = np.sum([noise.of_key(how, key, 20_000) for key in keys], axis=0)
    assert total.std() == pytest.approx(math.sqrt(6) * noise_promise.deviation(how), rel=0.03)

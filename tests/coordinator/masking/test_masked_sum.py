"""Payloads add up to the same in any order, and a wrong one changes nothing."""

from itertools import permutations

import numpy as np
import pytest

from coordinator.masking.masked_sum import MaskedSum
from fedmqtt.masking import packing
from fedmqtt.masking.packing import Words

BODY, TAIL, BITS = 1000, 3, 21


def _words(seed: int) -> Words:
    drawn = np.random.default_rng(seed).integers(0, 2**32, BODY + TAIL, dtype=np.uint64)
    return drawn.astype(np.uint32)


def _payload(seed: int) -> bytes:
    return packing.to_payload(_words(seed), BODY, BITS)


def _modulo(words: Words) -> tuple[Words, Words]:
    return words[:BODY] % np.uint32(2**BITS), words[BODY:]


def test_the_order_of_payloads_does_not_matter_and_times_do() -> None:
    wanted = _words(0) + 8 * _words(1) + 3 * _words(2)
    for order in permutations([(0, 1), (1, 8), (2, 3)]):
        total = MaskedSum(BODY, TAIL, BITS)
        for seed, times in order:
            total.add(_payload(seed), times)
        for found, right in zip(_modulo(total.words), _modulo(wanted), strict=True):
            assert np.array_equal(found, right)


def test_sums_of_masks_are_taken_away_and_the_sum_stays_as_it_is() -> None:
    total = MaskedSum(BODY, TAIL, BITS)
    total.add(_payload(0))
    before = total.words.copy()
    opened = total.open([_words(1), _words(2)])
    for found, right in zip(
        _modulo(opened), _modulo(_words(0) - _words(1) - _words(2)), strict=True
    ):
        assert np.array_equal(found, right)
    assert np.array_equal(total.words, before)


@pytest.mark.parametrize("payload", [b"", _payload(1)[:-1], _payload(1) + b"\0"])
def test_a_payload_of_another_length_is_refused_and_changes_nothing(payload: bytes) -> None:
    total = MaskedSum(BODY, TAIL, BITS)
    total.add(_payload(0))
    before = total.words.copy()
    with pytest.raises(ValueError, match="bytes, not"):
        total.add(payload)
    assert np.array_equal(total.words, before)

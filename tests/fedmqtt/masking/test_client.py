"""What leaves a client says nothing about what it learned, and only in a scheme that holds."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from msgspec import structs

from fedmqtt import masks_promise
from fedmqtt.masking import client, packing, sealing, seeds, values
from fedmqtt.masking.client import BadMasking
from fedmqtt.masking.masks import add_mask
from fedmqtt.masking.packing import Words
from fedmqtt.masking.sealing import NotOpened
from fedmqtt.messages import Keyholder, Masked, Masking, RoundKey
from fedmqtt.topics import ClientId, RoundId
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import BASE, CLIENTS, FEDERATION, ROUND, RUN, masking

SIZE = 100_000


def _words(how: Masking, value: float) -> Words:
    change = np.full(SIZE, value, np.float32)
    return values.to_words(how, change, 1, cohort.chances(CLIENTS[0]))


def _mask(how: Masking, words: Words) -> tuple[Masked, bytes]:
    key, _ = cohort.credentials("c0")
    return client.mask(how, FEDERATION, CLIENTS[0], RUN, ROUND, BASE, words, SIZE, key)


def _seeds(how: Masking) -> list[bytes]:
    """Not drawn but the same each time: what follows from them is no matter of chance."""
    return [bytes([number + 1]) * 32 for number in range(seeds.count(how.places, how.tolerated))]


def chi_square(data: bytes) -> float:
    """Of how often each byte comes, against all the same; 255 degrees of freedom."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float(np.square(counts - expected).sum() / expected)


BOUND = 380.0
"""Chance is above it once in three million times: 255 + 5.5 standard deviations of sqrt(510)."""


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.001])
@pytest.mark.parametrize("bits", [24, 32])
def test_a_masked_payload_is_uniform_whatever_is_in_it(value: float, bits: int) -> None:
    how = masking(bits=bits)
    words = _words(how, value)
    assert chi_square(packing.to_payload(words, SIZE, bits)) > 1000 * BOUND
    for seed in _seeds(how):
        add_mask(words, seed)
    assert chi_square(packing.to_payload(words, SIZE, bits)) < BOUND


@pytest.mark.parametrize(("places", "tolerated"), [(1, 0), (3, 1), (4, 1), (5, 2)])
def test_it_stays_so_when_as_many_keyholders_as_are_tolerated_take_their_masks_off(
    places: int, tolerated: int
) -> None:
    how = masking(places, tolerated)
    plain = _words(how, 0.5)
    masked = plain.copy()
    drawn = _seeds(how)
    for seed in drawn:
        add_mask(masked, seed)
    held = seeds.held_by(places, tolerated)

    def without(those: tuple[int, ...]) -> Words:
        words = masked.copy()
        for number in {number for place in those for number in held[place]}:
            add_mask(words, drawn[number], -1)
        return words

    for those in combinations(range(places), tolerated):
        assert chi_square(packing.to_payload(without(those), SIZE, how.bits)) < BOUND
    for those in combinations(range(places), tolerated + 1):
        assert np.array_equal(without(those), plain)


def test_it_goes_with_nothing_that_is_in_it() -> None:
    how = masking(bits=32)
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    words = values.to_words(how, ramp, 1, cohort.chances(CLIENTS[0]))
    for seed in _seeds(how):
        add_mask(words, seed)
    found = np.corrcoef(ramp, words[:SIZE].astype(np.float64))[0, 1]
    # Five standard deviations of what chance makes of 100,000 pairs.
    assert abs(found) < 5 / np.sqrt(SIZE)


def test_the_same_answer_is_never_masked_the_same_way_twice() -> None:
    how = masking()
    first, second = (_mask(how, _words(how, 0.5)) for _ in range(2))
    assert first[0].exchange != second[0].exchange
    assert first[0].sealed != second[0].sealed
    same = np.frombuffer(first[1], np.uint8) == np.frombuffer(second[1], np.uint8)
    # One byte in 256 by chance: six standard deviations.
    assert abs(same.mean() - 1 / 256) < 6 * np.sqrt(1 / 256 / same.size)


def test_a_payload_is_as_long_as_its_values_need_and_what_goes_with_it_is_short() -> None:
    how = masking(bits=24)
    masked, payload = _mask(how, _words(how, 0.5))
    assert len(payload) == SIZE * 3 + 4 * values.COUNTS
    assert [len(sealed) for sealed in masked.sealed] == [32 + 16] * 3


def test_a_seal_of_one_keyholder_opens_for_no_other() -> None:
    how = masking()
    entry = cohort.answer(how, CLIENTS[0], np.ones(10, np.float32)).entry
    for place in range(3):
        assert len(cohort.keys_of(how, place, entry)) == 2
    first, second, third = entry.masked.sealed
    swapped = structs.replace(
        entry, masked=structs.replace(entry.masked, sealed=(second, third, first))
    )
    for place in range(3):
        with pytest.raises(NotOpened):
            cohort.keys_of(how, place, swapped)


def test_a_seal_opens_in_no_other_clients_entry_and_for_no_other_round() -> None:
    how = masking()
    ann, bob = (cohort.answer(how, name, np.ones(10, np.float32)).entry for name in CLIENTS[:2])
    with pytest.raises(NotOpened):
        cohort.keys_of(how, 0, structs.replace(ann, masked=bob.masked))
    with pytest.raises(NotOpened):
        cohort.keys_of(
            how,
            0,
            structs.replace(ann, masked=structs.replace(ann.masked, sealed=bob.masked.sealed)),
        )
    context = cohort.context_of(ann.client, 0, RoundId(ROUND + 1))
    with pytest.raises(NotOpened):
        sealing.open_sealed(
            cohort.round_key(0)[0], ann.masked.exchange, context, ann.masked.sealed[0]
        )


def _keyholders(*changes: Callable[[Keyholder], Keyholder]) -> Masking:
    holders = tuple(change(one) for one, change in zip(masking().keyholders, changes, strict=False))
    return masking(keyholders=holders)


def _same(keyholder: Keyholder) -> Keyholder:
    return keyholder


SAME_KEY = RoundKey(9, cohort.round_key(0)[1], bytes(64))

FAULTS = {
    "nobody could open it": (
        masking(tolerated=3),
        "3 of which may leak, .* that is not 'keyholders'",
    ),
    "a place beyond the last": (
        _keyholders(_same, lambda one: structs.replace(one, place=3)),
        "in places 0, 3: that is not",
    ),
    "two at one place": (
        _keyholders(_same, lambda one: structs.replace(one, place=0)),
        "in places 0, 0: that is not",
    ),
    "one at two places": (
        _keyholders(_same, lambda one: structs.replace(one, name=ClientId("kh-0"))),
        "the same keyholder would be given two places",
    ),
    "one at two places, by two names": (
        _keyholders(
            _same,
            lambda one: structs.replace(one, key=RoundKey(9, cohort.round_key(0)[1], bytes(64))),
        ),
        "the same keyholder would be given two places",
    ),
    "more open several lists than need be": (
        masking(lists_max=2),
        "2 lists may be opened with one key of each of 3 keyholders",
    ),
    "too few are there": (_keyholders(_same), "in places 0: that is not"),
    "two halves could open two sums": (
        masking(4, 1),
        "4 keyholders, any 2 of whom open a sum: two halves of them could be shown two lists",
    ),
    "one alone, as if there were several": (
        structs.replace(masking(1, 0), mode="keyholders"),
        "that is not 'keyholders'",
    ),
    "several, as if there were one": (
        structs.replace(masking(), mode="trusted"),
        "that is not 'trusted'",
    ),
}


@pytest.mark.parametrize(("how", "why"), FAULTS.values(), ids=FAULTS.keys())
def test_nothing_is_masked_in_a_scheme_that_does_not_hold(how: Masking, why: str) -> None:
    with pytest.raises(BadMasking, match=why):
        _mask(how, _words(masking(), 0.5))


def test_a_scheme_holds_with_a_keyholder_missing() -> None:
    assert masks_promise.fault(_keyholders(_same, _same)) == ""
    assert masks_promise.fault(masking(1, 0)) == ""
    several = structs.replace(_keyholders(_same, _same), lists_max=20, times_max=8)
    assert masks_promise.fault(several) == ""
    assert masks_promise.fault(masking(1, 0, lists_max=20, times_max=8)) == ""

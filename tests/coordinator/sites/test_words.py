"""Two levels are one under masks too: keyholders open the same words, to the last one."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from coordinator.config import FederationConfig, Limits
from coordinator.sites import words
from coordinator.sites.above import AsMasked
from coordinator.sites.words import WordSum
from coordinator.sums.answers import Answers
from fedmqtt.masking import client, values
from fedmqtt.masking.packing import Words
from fedmqtt.masking.values import MeanChange, NotASum
from fedmqtt.messages import Entry, Masking, Measures
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import BASE, FEDERATION, ROUND, RUN, Answer, chances
from tests.updates import update

SEED = 11
"""Of `cohort.chances`."""
SIZE = 300
NORTH, SOUTH = ClientId("north"), ClientId("south")
THERE = (0, 2)


def device(number: int) -> tuple[ClientId, Array, int, Measures | None]:
    """Its name, change, samples, and what it measured: every third did not."""
    drawn = np.random.default_rng(number)
    change = drawn.normal(0, 0.4, SIZE).astype(np.float32)
    right, wrong = 3 + number, 2
    confusion = ((right, 0), (wrong, 1))
    measured = Measures(
        sample_count=right + wrong + 1, metrics={"loss": 0.1 * number}, confusion=confusion
    )
    name = ClientId(f"device-{number}")
    return name, change, 1 + 37 * number % 90, measured if number % 3 else None


def masked(how: Masking, name: ClientId, found: Words) -> Answer:
    """As a client sends it: under fresh masks."""
    key, _ = cohort.credentials(name)
    body = values.body_size(how, SIZE)
    told = (FEDERATION, name, RUN, ROUND, BASE)
    masked_, payload = client.mask(how, *told, found.copy(), body, key)
    digest = hashlib.sha256(payload).digest()
    return Answer(Entry(name, 1, digest, masked_, *cohort.author(name)), payload, found)


def direct(how: Masking, number: int) -> Answer:
    name, change, samples, measures = device(number)
    made = values.to_words(how, change, samples, chances(name), measures)
    return masked(how, name, made)


def site(how: Masking, name: ClientId, devices: Sequence[int]) -> Answer:
    """By its own coordinator, in a round that has another number than the centre's."""
    own = FederationConfig(name="own", task="t", codec="full", limits=Limits(samples_max=1000))
    as_masked = AsMasked(how, SEED, ROUND)
    answers = Answers(own, SIZE, len(devices), as_masked=lambda: as_masked)
    answers.begin(len(devices), RoundId(ROUND + 5))
    for number in devices:
        who, change, samples, measures = device(number)
        answer = update(numbers=change, sample_count=samples, codec="full", measures=measures)
        assert answers.check(who, answer) == ""
        answers.fold(who, answer, evaluates=True)
        answers.let_go()
    found = answers.words
    assert found is not None and words.are_for(found, as_masked)
    assert values.told_by(how, found.numbers, SIZE)[1] == len(devices)
    return masked(how, name, found.numbers)


FORMS = st.fixed_dictionaries(
    {
        "value_bits": st.sampled_from([2, 4, 8, 9, 14]),
        "weight_max": st.sampled_from([1, 20]),
        "samples_max": st.sampled_from([1, 60]),
        "norm_max": st.sampled_from([0.0, 2.0]),
        "change_max": st.sampled_from([0.5, 1.0]),
        "rotate": st.booleans(),
        "share": st.sampled_from([1.0, 0.3]),
        "block_norms": st.sampled_from([0, 4]),
        "metrics": st.sampled_from([(), ("loss", "mae")]),
        "classes": st.sampled_from([0, 2]),
    }
)
MODES = st.sampled_from(["keyholders", "committee"])


@settings(deadline=None, max_examples=60)
@given(FORMS, MODES, st.integers(1, 4), st.integers(1, 4))
def test_keyholders_open_what_they_would_of_one_level(
    form: dict[str, Any], mode: str, of_north: int, of_south: int
) -> None:
    devices, guard = of_north + of_south + 1, 10 if mode == "committee" else 0
    bits = values.bits_needed(form["value_bits"], devices)
    more: dict[str, Any] = {"mode": mode, "guard": guard, "bits": bits, "clients_max": 4}
    how = cohort.masking(**form, **more)
    north = site(how, NORTH, range(of_north))
    south = site(how, SOUTH, range(of_north, devices - 1))
    # A client of its own at the centre is in both.
    last = direct(how, devices - 1)
    two = cohort.opened(how, SIZE, THERE, [north, south, last])
    flat = [direct(how, number) for number in range(devices)]
    one = cohort.opened(how, SIZE, THERE, flat)
    body = values.body_size(how, SIZE)
    kept = np.uint32(2**bits - 1)
    assert (two[:body] & kept).tolist() == (one[:body] & kept).tolist()
    assert two[body:].tolist() == one[body:].tolist()
    shared = chances(NORTH).shared
    mean = values.from_sum(how, two, SIZE, 3, shared)
    assert mean.clients == devices
    assert mean.change.tolist() == values.from_sum(how, one, SIZE, devices, shared).change.tolist()


def test_words_are_for_what_is_asked_by_whomever_it_is_opened() -> None:
    how = AsMasked(cohort.masking(clients_max=4), SEED, ROUND)
    found = WordSum(how, SIZE).found
    others = structs.replace(how.masking, keyholders=how.masking.keyholders[:2], floor=3)
    assert words.are_for(found, replace(how, masking=others))
    for other in (
        replace(how, masking=structs.replace(how.masking, change_max=2.0)),
        replace(how, masking=structs.replace(how.masking, clients_max=5)),
        replace(how, seed=SEED + 1),
        replace(how, round=RoundId(ROUND + 1)),
    ):
        assert not words.are_for(found, other)


def test_all_that_a_masking_says_makes_words_or_does_not() -> None:
    """A new field may: then words of before are not for what is asked now."""
    not_numbers = {
        *("mode", "keyholders", "places", "tolerated", "floor", "bits", "participations_max"),
        *("lists_max", "times_max", "work", "guard"),
    }
    assert not_numbers.isdisjoint(values.NUMBERS)
    assert not_numbers | set(values.NUMBERS) == set(Masking.__struct_fields__)


def _sum_of(how: Masking, numbers: Sequence[int]) -> Words:
    made = WordSum(AsMasked(how, SEED, ROUND), SIZE)
    for number in numbers:
        made.add(*device(number))
    return made.found.numbers


@pytest.mark.parametrize(
    ("clients", "weight", "said"),
    [
        (0, 5, "2 answers that stand for 0 devices, not 2 to 8"),
        (9, 9, "2 answers that stand for 9 devices, not 2 to 8"),
        (5, 4, "2 answers that weighs 4, not 5 to 50"),
        (5, 51, "2 answers that weighs 51, not 5 to 50"),
    ],
)
def test_a_sum_of_more_devices_than_answers_can_be_of_is_none(
    clients: int, weight: int, said: str
) -> None:
    how = cohort.masking(clients_max=4, weight_max=10, samples_max=60)
    found = _sum_of(how, range(5))
    assert values.from_sum(how, found, SIZE, 2, chances(NORTH).shared).clients == 5
    found[SIZE], found[SIZE + 3] = weight, clients
    with pytest.raises(NotASum, match=said):
        values.from_sum(how, found, SIZE, 2, chances(NORTH).shared)


def test_a_mean_counts_for_as_many_as_it_stands_for() -> None:
    """Of several rounds there is no sum of devices' words, but how far the site has come."""
    how = cohort.masking(clients_max=4, weight_max=10, samples_max=60, bits=32)
    mean = np.full(SIZE, 0.25, np.float32)
    found = values.of_mean(how, mean, 33, 4, chances(NORTH))
    assert values.told_by(how, found, SIZE) == (33, 4)
    other = values.to_words(how, np.zeros(SIZE, np.float32), 60, chances(SOUTH))
    back = values.from_sum(how, found + other, SIZE, 2, chances(NORTH).shared)
    assert (back.weight, back.clients, back.clipped) == (43, 5, 0)
    assert np.allclose(back.change, 0.25 * 33 / 43, atol=1e-3)


def _opened_below(how: Masking, devices: int) -> MeanChange:
    """By a site's own keyholders, in a round of the centre's number."""
    answers = [direct(how, number) for number in range(devices)]
    found = cohort.opened(how, SIZE, THERE, answers)
    mean = values.from_sum(how, found, SIZE, devices, chances(NORTH).shared)
    return replace(mean, words=found)


_NUMBERS: dict[str, Any] = {
    **{"value_bits": 6, "bits": 9, "rotate": True, "share": 0.4, "norm_max": 2.0},
    **{"weight_max": 20, "samples_max": 60, "metrics": ("loss",), "classes": 2},
}
_BELOW = cohort.masking(**_NUMBERS)
"""At a site: with as many bits as its own devices take."""


@given(st.integers(1, 4))
def test_what_a_sites_own_keyholders_open_is_the_sum_of_its_devices_words(devices: int) -> None:
    how = AsMasked(structs.replace(_BELOW, bits=20, clients_max=4), SEED, ROUND)
    found = words.of_opened(_BELOW, _opened_below(_BELOW, devices), SIZE, ROUND, how)
    assert found is not None and words.are_for(found, how)
    assert found.numbers.tolist() == _sum_of(how.masking, range(devices)).tolist()


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"weight_max": 10}, ROUND),
        ({"value_bits": 7}, ROUND),
        ({"metrics": ()}, ROUND),
        ({"ranges": (0.5,)}, ROUND),
        # Other numbers were drawn, and rotated by other signs.
        ({}, ROUND + 1),
    ],
)
def test_what_was_opened_of_other_numbers_is_not_what_the_centre_adds_up(
    changes: dict[str, Any], number: int
) -> None:
    how = AsMasked(structs.replace(_BELOW, clients_max=4, **changes), SEED, ROUND)
    mean = _opened_below(_BELOW, 2)
    assert words.of_opened(_BELOW, mean, SIZE, RoundId(number), how) is None


def test_where_nothing_is_drawn_the_number_of_the_round_says_nothing() -> None:
    below = structs.replace(_BELOW, share=1.0, rotate=False)
    how = AsMasked(structs.replace(below, clients_max=4), SEED, ROUND)
    found = words.of_opened(below, _opened_below(below, 2), SIZE, RoundId(ROUND + 1), how)
    assert found is not None
    assert found.numbers.tolist() == _sum_of(how.masking, range(2)).tolist()

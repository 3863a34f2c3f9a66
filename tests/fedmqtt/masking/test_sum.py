"""The sum that keyholders open is the sum of what was masked: bit for bit, whoever is missing."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.masking.masked_sum import MaskedSum
from fedmqtt.masking import values
from fedmqtt.masking.packing import Words
from fedmqtt.messages import TIMES_MAX, Masking
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import CLIENTS, Answer, masking


def plain_sum(answers: list[Answer], bits: int) -> Words:
    """The same in Python's integers: the body modulo 2^bits, the tail modulo 2^32."""
    total = sum(one.entry.times * one.words.astype(object) for one in answers)
    assert isinstance(total, np.ndarray)
    total[: -values.COUNTS] %= 2**bits
    total[-values.COUNTS :] %= 2**32
    return total.astype(np.uint32)


@st.composite
def schemes(draw: st.DrawFn) -> Masking:
    places = draw(st.integers(1, 6))
    # Two sets that open a sum have one in common; one alone tolerates nobody.
    tolerated = draw(st.integers(places // 2, places - 1))
    value_bits = draw(st.integers(2, 24))
    changes: dict[str, Any] = {
        "value_bits": value_bits,
        "bits": values.bits_needed(value_bits, len(CLIENTS), TIMES_MAX),
        "share": draw(st.sampled_from([1.0, 0.5, 0.1])),
        "rotate": draw(st.booleans()),
        "weight_max": draw(st.sampled_from([1, 10, 255])),
        "samples_max": 20,
        "norm_max": draw(st.sampled_from([0.0, 1.0])),
        "ranges": draw(st.sampled_from([(), (0.5,), (0.2, 0.1)])),
    }
    return masking(places, tolerated, **changes)


@given(schemes(), st.integers(1, 3000), st.data())
@settings(deadline=None, max_examples=120)
def test_the_opened_sum_is_the_plain_sum_to_the_bit(
    how: Masking, size: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    everybody = [
        cohort.answer(
            how,
            name,
            rng.normal(scale=0.3, size=size).astype(np.float32),
            samples=data.draw(st.integers(1, 40)),
            times=data.draw(st.integers(1, TIMES_MAX)),
        )
        for name in CLIENTS[: data.draw(st.integers(1, len(CLIENTS)))]
    ]
    # Some vanish before they were heard of, and those who are there come in any order.
    there = data.draw(st.permutations(everybody))
    there = there[: data.draw(st.integers(1, len(there)))]
    number = data.draw(st.integers(how.tolerated + 1, how.places))
    keyholders = data.draw(st.permutations(range(how.places)))[:number]

    opened = cohort.opened(how, size, keyholders, there)

    body = values.body_size(how, size)
    wanted = plain_sum(there, how.bits)
    assert np.array_equal(
        values.centred(opened[:body], how.bits), values.centred(wanted[:body], how.bits)
    )
    assert np.array_equal(opened[body:], wanted[body:])
    # And so is the mean, whoever opened it.
    terms = sum(one.entry.times for one in there)
    shared = cohort.chances(CLIENTS[0]).shared
    found, same = (values.from_sum(how, one, size, terms, shared) for one in (opened, wanted))
    assert found.change.tobytes() == same.change.tobytes()
    assert found.weight == sum(one.entry.times * int(one.words[body]) for one in there)


def test_who_is_in_the_payloads_and_not_in_the_list_leaves_noise() -> None:
    how = masking()
    answers = [cohort.answer(how, name, np.full(1000, 0.5, np.float32)) for name in CLIENTS[:4]]
    total = cohort.opened(how, 1000, [0, 1, 2], answers[:3])
    assert set(values.centred(total[:1000], how.bits).tolist()) == {3 * 16384}
    # One payload more than masks: nothing of any is left to see.
    seen = MaskedSum(1000, values.COUNTS, how.bits)
    seen.add(answers[3].payload)
    mixed = values.centred((total + seen.words)[:1000], how.bits)
    assert len(set(mixed.tolist())) > 900

"""What a committee opens is the sum of what was hidden: bit for bit, whoever is missing; and what
it opens wrongly is none."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmqtt import committee_promise
from fedmqtt.committee_promise import KEY, SHORT_MAX, TERMS_MAX
from fedmqtt.masking import committee, masks, packing, seeds, values
from fedmqtt.masking.committee import KeySum
from fedmqtt.masking.packing import Words
from fedmqtt.masking.values import NotASum
from fedmqtt.messages import Masking
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import CLIENTS, FEDERATION

SIZE = 5000


def committees(places: int = 3, tolerated: int = 1, **changes: Any) -> Masking:
    """With room for as many answers as there are clients."""
    value_bits = changes.get("value_bits", 16)
    chosen: dict[str, Any] = {
        "mode": "committee",
        "value_bits": value_bits,
        "bits": values.bits_needed(value_bits, len(CLIENTS)),
        "guard": committee_promise.guard_bits(len(CLIENTS)),
    }
    return cohort.masking(places, tolerated, **(chosen | changes))


@st.composite
def schemes(draw: st.DrawFn) -> Masking:
    places = draw(st.integers(2, 6))
    return committees(
        places,
        # Fewer, and two halves of them could be shown two lists.
        draw(st.integers(places // 2, places - 1)),
        value_bits=draw(st.integers(2, 18)),
        share=draw(st.sampled_from([1.0, 0.5])),
        rotate=draw(st.booleans()),
        weight_max=draw(st.sampled_from([1, 255])),
        samples_max=20,
        norm_max=draw(st.sampled_from([0.0, 1.0])),
        block_norms=draw(st.sampled_from([0, 2])),
        metrics=draw(st.sampled_from([(), ("loss",)])),
        classes=draw(st.sampled_from([0, 3])),
    )


def plain_sum(answers: list[cohort.Answer], body: int, bits: int) -> Words:
    """In Python's integers: the body modulo 2^bits, the tail modulo 2^32."""
    total = sum(one.words.astype(object) for one in answers)
    assert isinstance(total, np.ndarray)
    total[:body] %= 2**bits
    total[body:] %= 2**32
    return total.astype(np.uint32)


@given(schemes(), st.integers(1, 3 * KEY), st.data())
@settings(deadline=None, max_examples=60)
def test_the_opened_sum_is_the_plain_sum_to_the_bit(
    how: Masking, size: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    everybody = [
        cohort.answer(
            how,
            name,
            rng.normal(scale=data.draw(st.sampled_from([0.01, 10])), size=size).astype(np.float32),
            samples=data.draw(st.integers(1, 40)),
        )
        for name in CLIENTS[: data.draw(st.integers(1, len(CLIENTS)))]
    ]
    # Some vanish before they were heard of, and those who are there come in any order.
    there = data.draw(st.permutations(everybody))
    there = there[: data.draw(st.integers(1, len(there)))]
    number = data.draw(st.integers(how.tolerated + 1, how.places))
    members = data.draw(st.permutations(range(how.places)))[:number]
    body = values.body_size(how, size)

    opened = cohort.opened(how, size, members, there)

    assert opened.tobytes() == plain_sum(there, body, how.bits).tobytes()


def test_whose_answer_is_taken_out_again_is_in_no_sum() -> None:
    how = committees()
    answers = [cohort.answer(how, name, np.full(SIZE, 0.25, np.float32)) for name in CLIENTS[:4]]
    total = cohort.no_sum(how, SIZE)
    for one in answers:
        total.add(one.payload)
    total.add(answers[1].payload, -1)
    there = [*answers[:1], *answers[2:]]
    opened = total.open(_sums(how, there))
    assert opened.tobytes() == plain_sum(there, SIZE, how.bits).tobytes()


def test_as_many_answers_at_their_largest_as_there_may_be_add_up_without_wrapping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All numbers of all keys and errors at the bound: real ones are so never."""
    terms, body, tail = TERMS_MAX, 40, 2
    value_bits = 8
    how = committees(
        value_bits=value_bits,
        bits=values.bits_needed(value_bits, terms),
        guard=committee_promise.guard_bits(terms),
    )
    assert how.bits + how.guard == 32 and not committee_promise.fault(how)
    for bound in (SHORT_MAX, -SHORT_MAX):
        monkeypatch.setattr(
            committee,
            "_short",
            lambda more, size, bound=bound: np.full(size, bound, np.int64),
        )
        words = np.full(body + tail, -values.level_max(value_bits) % 2**32, np.uint32)
        words[body:] = 2**32 - 1
        total = KeySum(how, FEDERATION, body, tail)
        payload = committee.hide(how, FEDERATION, words.copy(), body, [])
        for _ in range(terms):
            total.add(payload)
        opened = total.open([])
        wanted = values.level_max(value_bits) * terms
        assert set(values.centred(opened[:body], how.bits).tolist()) == {-wanted}
        assert set(opened[body:].tolist()) == {-terms % 2**32}


# What is wrong


def _sums(how: Masking, answers: list[cohort.Answer]) -> list[Words]:
    assigned = seeds.assign(how.places, how.tolerated, range(how.places))
    assert assigned is not None
    return cohort.mask_sums(how, SIZE, assigned, (one.entry for one in answers))


@pytest.mark.parametrize("lie", [1, 2, 40, 2**9, "one number"])
def test_a_wrong_sum_of_keys_opens_nothing(lie: int | str) -> None:
    how = committees()
    answers = [cohort.answer(how, name, np.full(SIZE, 0.25, np.float32)) for name in CLIENTS]
    total = cohort.no_sum(how, SIZE)
    for one in answers:
        total.add(one.payload)
    sums = _sums(how, answers)
    right = total.open(sums)
    if lie == "one number":
        sums[1][17] += np.uint32(1)
    else:
        sums[1] += np.uint32(lie)
    with pytest.raises(NotASum):
        total.open(sums)
    assert right.tobytes() == plain_sum(answers, SIZE, how.bits).tobytes()


def test_who_is_in_the_sum_and_not_on_the_list_opens_nothing() -> None:
    how = committees()
    answers = [cohort.answer(how, name, np.full(SIZE, 0.25, np.float32)) for name in CLIENTS[:4]]
    total = cohort.no_sum(how, SIZE)
    for one in answers:
        total.add(one.payload)
    with pytest.raises(NotASum, match="no sum of short ones"):
        total.open(_sums(how, answers[:3]))


def test_another_rounds_answer_spoils_the_sum() -> None:
    how, other = committees(), committees(floor=3)
    answers = [cohort.answer(how, name, np.full(SIZE, 0.25, np.float32)) for name in CLIENTS[:3]]
    stray = cohort.answer(other, CLIENTS[3], np.full(SIZE, 0.25, np.float32))
    total = cohort.no_sum(how, SIZE)
    for one in (*answers, stray):
        total.add(one.payload)
    sums = _sums(how, answers)
    for mine, its in zip(sums, _sums(other, [stray]), strict=True):
        mine += its
    with pytest.raises(NotASum, match="the keys are not theirs"):
        total.open(sums)


@pytest.mark.parametrize("more", [b"x", -1])
def test_a_payload_of_another_length_changes_nothing(more: bytes | int) -> None:
    how = committees()
    one = cohort.answer(how, CLIENTS[0], np.full(SIZE, 0.25, np.float32))
    total = cohort.no_sum(how, SIZE)
    total.add(one.payload)
    bad = one.payload + more if isinstance(more, bytes) else one.payload[:more]
    with pytest.raises(ValueError, match="bytes, not"):
        total.add(bad)
    opened = total.open(_sums(how, [one]))
    assert opened.tobytes() == plain_sum([one], SIZE, how.bits).tobytes()


# What leaves a client


def test_keys_and_errors_are_centred_binomials() -> None:
    drawn = committee._short(masks.stream(hashlib.sha256(b"a test").digest()), 100_000)
    assert drawn.min() >= -SHORT_MAX and drawn.max() <= SHORT_MAX
    # Deviation 4: mean within 5 of its own, variance within 5 of its own.
    assert abs(drawn.mean()) < 5 * 4 / 100_000**0.5
    assert abs(drawn.var() - 16) < 5 * 16 * (2 / 100_000) ** 0.5


def test_ones_are_counted() -> None:
    bits = np.array([0, 1, 2**64 - 1, 0x8000000000000001, 0x0123456789ABCDEF], np.uint64)
    wanted = [int(one).bit_count() for one in bits]
    assert committee._ones(bits.copy()).tolist() == wanted


def test_what_is_sent_is_uniform_whatever_is_in_it_and_another_each_time() -> None:
    how = committees()
    size = 16 * KEY
    words = values.to_words(how, np.zeros(size, np.float32), 1, cohort.chances(CLIENTS[0]))
    sent = [committee.hide(how, FEDERATION, words.copy(), size, [bytes(32)]) for _ in range(2)]
    assert len(sent[0]) == committee.payload_bytes(how, size, values.tail_size(how, size))
    key = packing.packed_bytes(KEY, how.guard)
    body = [np.frombuffer(one, np.uint8)[key:] for one in sent]
    # Of errors alone, without a key, few bytes would differ: here all but one of 256.
    same = float(np.mean(body[0] == body[1]))
    assert same < 0.02
    counts = np.bincount(body[0], minlength=256)
    expected = body[0].size / 256
    # Chance is above it once in three million times: see test_client.py.
    assert float(np.square(counts - expected).sum() / expected) < 380


def test_what_keys_are_multiplied_with_follows_from_the_masking_and_is_never_short() -> None:
    how, other = committees(), committees(floor=3)
    one, again, others = (
        np.concatenate([blocks.reshape(-1) for _, blocks in committee._public(a, FEDERATION, SIZE)])
        for a in (how, how, other)
    )
    assert one.size == 3 * KEY
    assert np.array_equal(one, again)
    assert np.mean(one == others) < 0.001
    assert one.min() < 2**26 and one.max() > 2**32 - 2**26

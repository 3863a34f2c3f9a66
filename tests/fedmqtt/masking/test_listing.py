"""A list comes whole, as it was, or is refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmqtt import messages
from fedmqtt.masking import listing
from fedmqtt.masking.listing import Joining, NotAList
from fedmqtt.messages import Answered, Entry, Keyholder, Masked, Masking, Open, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from tests.fedmqtt.masking import cohort


def _masked(number: int) -> Masked:
    return Masked(
        exchange=bytes([number % 256]) * 32,
        sealed=(b"a" * 48, b"b" * 48),
        signature=b"s" * 64,
        commitments=b"c" * 64,
    )


def a_list(count: int) -> Open:
    return Open(
        run=cohort.RUN,
        round=cohort.ROUND,
        base=cohort.BASE,
        masking=cohort.masking(),
        body=10,
        tail=3,
        digest=bytes(32),
        part=0,
        parts=1,
        entries=tuple(
            Entry(
                *(ClientId(f"c{number}"), 1 + number % 8, bytes(32), _masked(number)),
                *(b"d" * 32, b"t" * 64),
            )
            for number in range(count)
        ),
        seeds=(0, 2),
    )


CHANGES: dict[str, Any] = {
    "run": RunId("r2"),
    "round": RoundId(8),
    "base": Digest("cd" * 32),
    "masking": cohort.masking(floor=3),
    "body": 11,
    "tail": 4,
    "entries": a_list(4).entries,
    "answered": (Answered(RoundId(6), cohort.BASE, 1), Answered(RoundId(7), cohort.BASE, 2)),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_digest_is_of_everything_that_decides_the_sum(field: str) -> None:
    whole = a_list(3)
    other = structs.replace(whole, **{field: CHANGES[field]})
    assert listing.digest(other) != listing.digest(whole)


def test_a_digest_tells_times_and_order() -> None:
    first, second = a_list(2).entries
    digests = {
        listing.digest(structs.replace(a_list(2), entries=entries))
        for entries in (
            (first, second),
            (second, first),
            (first, first),
            (structs.replace(first, times=2), second),
        )
    }
    assert len(digests) == 4


def test_each_entry_answers_what_it_is_said_to_or_the_round_that_closes() -> None:
    whole = a_list(3)
    assert [(one.round, one.base) for one in listing.answered(whole)] == 3 * [
        (cohort.ROUND, cohort.BASE)
    ]
    older = Answered(RoundId(6), Digest("cd" * 32), 1)
    newer = Answered(RoundId(7), cohort.BASE, 2)
    of = listing.answered(structs.replace(whole, answered=(older, newer)))
    assert [*of] == [older, newer, newer]


def test_a_list_of_one_rounds_answers_has_the_digest_that_it_always_had() -> None:
    """Coordinators and keyholders are not replaced at the same moment."""
    how = Masking(
        mode="trusted",
        keyholders=(Keyholder(ClientId("agg"), 0, RoundKey(7, b"k" * 32, b"s" * 64)),),
        places=1,
        tolerated=0,
        floor=2,
        bits=24,
        value_bits=16,
        change_max=1.0,
    )
    nobody = structs.replace(a_list(0), masking=how, seeds=())
    assert listing.digest(nobody).hex() == (
        "39e200487fd42d11e02b9b9aaf323aedbee5844bf17a2c8e1b3f16a924bc7d66"
    )


def test_a_digest_is_of_nothing_that_differs_between_keyholders() -> None:
    whole = a_list(3)
    other = structs.replace(whole, seeds=(1,), digest=b"x" * 32)
    assert listing.digest(other) == listing.digest(whole)


@given(st.integers(0, 60), st.integers(1500, 20_000), st.randoms(use_true_random=False))
def test_a_list_is_whole_again_from_its_parts_in_any_order(
    count: int, bytes_max: int, chance: Any
) -> None:
    whole = a_list(count)
    cut = listing.parts(whole, bytes_max)
    assert all(len(messages.encode(part)) <= bytes_max for part in cut)
    assert {part.seeds for part in cut} == {(0, 2)}
    # Each crosses the broker, and some of them twice.
    sent = [messages.read_to_client(messages.encode(part)) for part in cut]
    sent += chance.sample(sent, len(sent) // 3)
    chance.shuffle(sent)
    joining = Joining(entries_max=60)
    found = [joining.take(part) for part in sent if isinstance(part, Open)]
    named = structs.replace(whole, digest=listing.digest(whole))
    assert named in found and all(one in (None, named) for one in found)


def _cut(count: int) -> list[Open]:
    cut = listing.parts(a_list(count), 2500)
    assert len(cut) > 2
    return cut


def test_parts_of_another_list_take_the_place_of_what_was_not_whole() -> None:
    old, new = _cut(9), _cut(10)
    joining = Joining(entries_max=60)
    assert [joining.take(part) for part in (*old[:-1], *new[:-1], old[-1])] == [None] * (
        len(old) + len(new) - 1
    )
    assert joining.take(new[-1]) is None
    assert [joining.take(part) for part in new[:-1]][-1] is not None


def test_a_list_that_is_asked_for_other_seeds_is_told_from_the_first() -> None:
    cut = _cut(9)
    joining = Joining(entries_max=60)
    for part in cut:
        whole = joining.take(part)
    assert whole is not None
    again = [structs.replace(part, seeds=(1,)) for part in cut]
    found = [joining.take(part) for part in again][-1]
    assert found == structs.replace(whole, seeds=(1,))


def test_a_part_with_other_entries_makes_no_list() -> None:
    cut = _cut(9)
    hurt = structs.replace(cut[1], entries=cut[1].entries[:-1])
    joining = Joining(entries_max=60)
    with pytest.raises(NotAList, match="not the one of its digest"):
        for part in (cut[0], hurt, *cut[2:]):
            joining.take(part)
    # And leaves nothing behind.
    assert [joining.take(part) for part in cut][-1] is not None


def test_a_part_that_says_something_else_about_the_round_does_not_belong_to_the_others() -> None:
    cut = _cut(9)
    for field in ("run", "round", "base", "masking", "body", "tail"):
        joining = Joining(entries_max=60)
        odd = structs.replace(cut[0], **{field: CHANGES[field]})
        assert [joining.take(part) for part in (odd, *cut[1:])] == [None] * len(cut)


def test_a_list_of_one_part_is_seen_through_too() -> None:
    whole = structs.replace(a_list(3), digest=b"x" * 32)
    with pytest.raises(NotAList, match="digest"):
        Joining(entries_max=60).take(whole)


def test_no_list_takes_more_memory_than_is_allowed() -> None:
    joining = Joining(entries_max=8)
    with pytest.raises(NotAList, match="more than 8 answers"):
        for part in _cut(9):
            joining.take(part)


def test_a_part_beyond_the_last_is_none() -> None:
    with pytest.raises(NotAList, match="part 1 of a list of 1"):
        Joining(entries_max=8).take(structs.replace(a_list(1), part=1))


def test_what_does_not_fit_is_said_to_who_sends_it() -> None:
    with pytest.raises(ValueError, match="does not fit 1000 bytes"):
        listing.parts(a_list(1), 1000)
    assert len(listing.parts(a_list(0), 100_000)) == 1


def test_a_list_of_thousands_of_answers_goes_by_in_few_parts() -> None:
    cut = listing.parts(a_list(4096), 131_072)
    assert len(cut) <= 20
    assert sum(len(part.entries) for part in cut) == 4096
    assert max(len(msgspec.msgpack.encode(part)) for part in cut) <= 131_072

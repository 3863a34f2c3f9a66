"""A seed that a client committed to is known again, and no other passes for it."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.masking import commitments, seeds
from fedmqtt.masking.commitments import SEED_BYTES, NotCommitted
from fedmqtt.messages import COMMITMENT_BYTES, COMMITMENTS_MAX, KEYHOLDERS_MAX
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from tests.fedmqtt.masking import cohort

WHAT: dict[str, Any] = {
    "federation": "ward-7",
    "run": RunId("r1"),
    "round_id": RoundId(7),
    "client": ClientId("ann"),
    "base": Digest("ab" * 32),
    "exchange": bytes(range(32)),
}
CONTEXT = commitments.context(**WHAT)
SEED = bytes(range(100, 116))
GOLDEN = (
    "8084ffec0879c946f6fbab56f3024a91e9445eafb9b1c7fe8413299692766d4f",
    "18d06b65360c6a9288f9afbaf4506eaff02ec6af05dd3e800f7e12b63236742c",
)
"""Key and commitment of it, of number 2."""
HOW = cohort.masking()
DRAWN = [bytes([number]) * SEED_BYTES for number in range(3)]
COMMITTED = b"".join(commitments.expand(CONTEXT, at, one)[1] for at, one in enumerate(DRAWN))


def _share(place: int, drawn: list[bytes] = DRAWN) -> bytes:
    return b"".join(drawn[number] for number in seeds.held_by(3, 1)[place])


def test_key_and_commitment_are_the_halves_of_a_hash_of_all_that_the_seed_is_for() -> None:
    parts = [
        *(b"fedmqtt 1 committed seed", b"ward-7", b"r1", bytes([0] * 7 + [7]), b"ann"),
        *(b"ab" * 32, bytes(range(32))),
    ]
    what = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    said = b"".join(
        len(part).to_bytes(4, "big") + part for part in (what, bytes([0, 0, 0, 2]), SEED)
    )
    key, commitment = commitments.expand(CONTEXT, 2, SEED)
    assert key + commitment == hashlib.sha512(said).digest()
    # As first written down: what was committed to is known again by later programs.
    assert (key.hex(), commitment.hex()) == GOLDEN


@pytest.mark.parametrize(
    ("name", "other"),
    [
        *(("federation", "ward-8"), ("run", RunId("r2")), ("round_id", RoundId(8))),
        *(("client", ClientId("bob")), ("base", Digest("cd" * 32)), ("exchange", bytes(32))),
    ],
)
def test_a_seed_is_something_else_for_anything_else(name: str, other: Any) -> None:
    elsewhere = commitments.context(**WHAT | {name: other})
    key, commitment = commitments.expand(CONTEXT, 2, SEED)
    for found in (commitments.expand(elsewhere, 2, SEED), commitments.expand(CONTEXT, 1, SEED)):
        assert found[0] != key and found[1] != commitment


@pytest.mark.parametrize("place", range(3))
def test_what_was_committed_to_gives_the_keys_of_the_masks(place: int) -> None:
    keys = commitments.keys(HOW, place, CONTEXT, _share(place), COMMITTED)
    assert keys == tuple(
        commitments.expand(CONTEXT, number, DRAWN[number])[0]
        for number in seeds.held_by(3, 1)[place]
    )


@given(st.integers(0, 2), st.integers(0, 1), st.integers(0, 8 * SEED_BYTES - 1))
def test_a_seed_with_a_bit_changed_is_another(place: int, at: int, bit: int) -> None:
    share = bytearray(_share(place))
    share[at * SEED_BYTES + bit // 8] ^= 1 << bit % 8
    number = seeds.held_by(3, 1)[place][at]
    with pytest.raises(NotCommitted, match=f"sealed another seed {number} than it committed to"):
        commitments.keys(HOW, place, CONTEXT, bytes(share), COMMITTED)


def test_seeds_or_commitments_in_another_order_are_others() -> None:
    swapped = [DRAWN[0], DRAWN[2], DRAWN[1]]
    with pytest.raises(NotCommitted, match="another seed 1"):
        commitments.keys(HOW, 0, CONTEXT, _share(0, swapped), COMMITTED)
    first, second, third = commitments.cut(COMMITTED, COMMITMENT_BYTES)
    with pytest.raises(NotCommitted, match="another seed 1"):
        commitments.keys(HOW, 0, CONTEXT, _share(0), first + third + second)


@pytest.mark.parametrize("size", [0, 1, 32, 64, 95, 97, 128])
def test_commitments_are_as_long_as_belong_there(size: int) -> None:
    told = (COMMITTED + COMMITTED)[:size]
    why = f"commits to its seeds in {size} bytes, not 96"
    assert commitments.fault(HOW, told) == why
    with pytest.raises(NotCommitted, match=why):
        commitments.keys(HOW, 0, CONTEXT, _share(0), told)
    assert commitments.fault(HOW, COMMITTED) == ""


def test_a_seed_is_committed_to_where_several_that_are_named_hold_it() -> None:
    assert commitments.numbers(cohort.masking(1, 0)) == ()
    assert commitments.numbers(HOW) == (0, 1, 2)
    # With one of three away each other holds one seed alone: nobody else can tell of it.
    two = cohort.masking(keyholders=(cohort.keyholder(0), cohort.keyholder(2)))
    assert commitments.numbers(two) == (1,)
    told = commitments.expand(CONTEXT, 1, DRAWN[1])[1]
    for place in (0, 2):
        assert len(commitments.keys(two, place, CONTEXT, _share(place), told)) == 2
    with pytest.raises(NotCommitted, match="another seed 1"):
        commitments.keys(two, 0, CONTEXT, _share(0, [bytes(16)] * 3), told)


def test_all_that_there_can_be_fit_their_message() -> None:
    shapes = [(m, t) for m in range(1, KEYHOLDERS_MAX + 1) for t in range(m)]
    most = max(len(seeds.shared(m, t, range(m))) for m, t in shapes)
    assert most == COMMITMENTS_MAX

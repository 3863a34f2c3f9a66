"""Sums of masks: to the bit, whatever the order; and what is made of them on the disk."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from fedmqtt import messages, signing
from fedmqtt.masking import sealing, seeds
from fedmqtt.messages import UNFIT_MAX, Answered, Entry, Open, Opened, RoundKey, WhyUnfit
from fedmqtt.topics import ClientId, Digest, RoundId
from keyholder import answers, sums
from keyholder.answers import SumsLost
from keyholder.listed import Listed
from keyholder.sums import Keeper, Unfit
from tests.keyholder.masked_clients import BASE, ROUND, Answers, keyholder, masking

FEDERATION = "demo"
FEDERATION_PRIVATE = signing.new_key()
PAIRS = {f"kh-{place}": sealing.new_round_key() for place in range(5)}


def _answers(places: int, tolerated: int, there: Sequence[int] = (), **changes: Any) -> Answers:
    """By all keyholders, or by those at these places alone."""
    named = [
        keyholder(f"kh-{place}", place, RoundKey(5, PAIRS[f"kh-{place}"][1], bytes(64)))
        for place in there or range(places)
    ]
    how = masking(named, places, tolerated=tolerated, **changes)
    return Answers(FEDERATION, FEDERATION_PRIVATE, how, size=40)


def _add_up(asked: Open, name: str, folder: Path) -> tuple[dict[int, bytes], Listed]:
    """By seed, what the keyholder of this name comes to; and what it writes down of it."""
    keeper = Keeper(
        federation=FEDERATION,
        federation_key=signing.public_key(FEDERATION_PRIVATE),
        name=ClientId(name),
    )
    path = folder / name
    digests = sums.add_up(asked, keeper, sums.shares(asked, keeper, PAIRS[name][0]), path)
    place = next(one.place for one in asked.masking.keyholders if one.name == name)
    held = seeds.held_by(asked.masking.places, asked.masking.tolerated)[place]
    data = path.read_bytes()
    each = len(data) // len(held)
    listed = Listed(
        number=5,
        digest=asked.digest,
        run=asked.run,
        round=asked.round,
        clients=len(asked.entries),
        held=held,
        seeds=asked.seeds,
        digests=digests,
    )
    return {seed: data[at * each : (at + 1) * each] for at, seed in enumerate(held)}, listed


@pytest.mark.parametrize(("places", "tolerated"), [(1, 0), (3, 1), (4, 2)])
def test_enough_keyholders_open_the_sum_and_fewer_lack_a_seed(
    places: int, tolerated: int, tmp_path: Path
) -> None:
    made = _answers(places, tolerated)
    entries = [made.of("ann", 3), made.of("bob"), made.of("cat", 8)]
    asked = made.list(entries, ())
    told = {name: _add_up(asked, name, tmp_path)[0] for name in list(PAIRS)[:places]}
    every = range(seeds.count(places, tolerated))
    for some in itertools.combinations(told.values(), tolerated + 1):
        came = {seed: one for sums_ in some for seed, one in sums_.items()}
        assert sorted(came) == list(every)
        assert made.opened(asked, list(came.values())).tolist() == made.sum(asked).tolist()
    for some in itertools.combinations(told.values(), tolerated):
        assert {seed for sums_ in some for seed in sums_} != set(every)


def test_the_order_of_a_list_changes_no_byte(tmp_path: Path) -> None:
    made = _answers(3, 1)
    entries = [made.of("ann", 2), made.of("bob"), made.of("cat")]
    one, _ = _add_up(made.list(entries, ()), "kh-0", tmp_path)
    other, _ = _add_up(made.list(entries[::-1], ()), "kh-0", tmp_path)
    assert one == other


def _spread(tmp_path: Path, wanted: tuple[int, ...]) -> tuple[answers.Spread, dict[int, bytes]]:
    made = _answers(3, 1)
    asked = made.list([made.of(name) for name in ("ann", "bob", "cat")], wanted)
    sums_, listed = _add_up(asked, "kh-0", tmp_path)
    return answers.spread(listed, tmp_path / "kh-0"), sums_


@pytest.mark.parametrize("wanted", [(), (1,), (2,), (1, 2), (2, 1)])
def test_an_answer_is_read_from_the_disk_in_pieces(tmp_path: Path, wanted: tuple[int, ...]) -> None:
    spread, sums_ = _spread(tmp_path, wanted)
    whole = spread.piece(0, spread.sums.size_bytes)
    opened = messages.read_from_client(whole)
    assert isinstance(opened, Opened)
    assert opened.payload == b"".join(sums_[seed] for seed in wanted)
    assert opened.seeds == wanted and len(opened.digests) == 2
    for size in (1, 7, 100):
        cuts = range(0, len(whole), size)
        pieces = [spread.piece(at, min(at + size, len(whole))) for at in cuts]
        assert b"".join(pieces) == whole


def test_sums_that_changed_on_the_disk_are_not_sent(tmp_path: Path) -> None:
    made = _answers(3, 1)
    asked = made.list([made.of(name) for name in ("ann", "bob", "cat")], (1,))
    _, listed = _add_up(asked, "kh-0", tmp_path)
    path = tmp_path / "kh-0"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(SumsLost, match="is not what was written"):
        answers.spread(listed, path)
    # The other seed's are whole.
    assert answers.spread(structs.replace(listed, seeds=(2,)), path).starts
    path.unlink()
    with pytest.raises(SumsLost, match="of round 3 are not kept any more"):
        answers.spread(listed, path)


def test_each_entry_is_of_the_round_that_it_answers(tmp_path: Path) -> None:
    made = _answers(1, 0, times_max=8)
    earlier: dict[str, Any] = {"round_id": RoundId(2), "base": Digest("b" * 64)}
    entries = [made.of("ann", **earlier), made.of("bob"), made.of("cat")]
    answered = (Answered(RoundId(2), Digest("b" * 64), 1), Answered(ROUND, BASE, 2))
    asked = made.list(entries, (), answered=answered)
    (told,) = _add_up(asked, "kh-0", tmp_path)[0].values()
    assert made.opened(asked, [told]).tolist() == made.sum(asked).tolist()
    swapped = made.list(entries, (), answered=answered[::-1])
    assert _unfit(swapped).clients == {"ann": "signature", "cat": "signature"}


def _refused(made: Answers, entries: list[Entry], **kept: Any) -> Unfit:
    return _unfit(made.list(entries, ()), **kept)


def _unfit(asked: Open, **kept: Any) -> Unfit:
    keeper = Keeper(
        federation=FEDERATION,
        federation_key=signing.public_key(FEDERATION_PRIVATE),
        name=ClientId("kh-0"),
        **kept,
    )
    with pytest.raises(Unfit) as caught:
        sums.shares(asked, keeper, PAIRS["kh-0"][0])
    return caught.value


def test_all_that_are_not_in_order_are_named_and_not_up_to_the_first_alone() -> None:
    made = _answers(3, 1)
    wrong: dict[str, Any] = {"base": Digest("b" * 64)}
    refused = _refused(made, [made.of("ann"), made.of("bob", **wrong), made.of("cat")])
    assert refused.clients == {"bob": "signature"}
    assert str(refused) == "the answer of bob is not what it signed, or not for this round"
    names = [f"c{number}" for number in range(5)]
    several = _refused(made, [made.of("ann"), *(made.of(name, **wrong) for name in names)])
    assert list(several.clients) == names
    assert str(several).count("is not what it signed") == 3
    assert str(several).endswith("; and 2 more")


@st.composite
def _divided(draw: st.DrawFn) -> tuple[int, int, list[int], dict[str, set[tuple[str, int]]]]:
    """Places, how many are tolerated, which are there, and which client gives which of those
    another seed under which number; one client at least gives all the same."""
    places, tolerated = draw(st.sampled_from([(3, 1), (4, 2), (5, 3)]))
    number = draw(st.integers(tolerated + 1, places))
    there = sorted(draw(st.permutations(range(places)))[:number])
    shared = seeds.shared(places, tolerated, there)
    held = seeds.held_by(places, tolerated)
    can = [(f"kh-{place}", seed) for place in there for seed in held[place] if seed in shared]
    wrong = st.sets(st.sampled_from(can), max_size=2)
    return places, tolerated, there, {name: draw(wrong) for name in ("bob", "cat", "dan")}


@given(_divided())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_who_seals_different_seeds_is_named_by_whom_it_gave_them_and_the_others_agree(
    tmp_path: Path, of: tuple[int, int, list[int], dict[str, set[tuple[str, int]]]]
) -> None:
    places, tolerated, there, wrong = of
    made = _answers(places, tolerated, there)
    entries = [made.of("ann", 3)]
    entries += [made.of(name, divided_for=pairs) for name, pairs in wrong.items()]
    named: set[ClientId] = set()
    for name in [f"kh-{place}" for place in there]:
        unfit = _found(made.list(entries, ()), name)
        given_other = {client for client, pairs in wrong.items() if name in dict(pairs)}
        assert unfit == dict.fromkeys(given_other, "commitment")
        named |= unfit.keys()
    asked = made.list([entry for entry in entries if entry.client not in named], ())
    told: dict[int, set[bytes]] = {}
    for place in there:
        for seed, one in _add_up(asked, f"kh-{place}", tmp_path)[0].items():
            told.setdefault(seed, set()).add(one)
    # No two keyholders say different things of a seed: nobody passes for one that lies.
    assert sorted(told) == list(range(seeds.count(places, tolerated)))
    assert all(len(one) == 1 for one in told.values())
    sums_ = [packed for one in told.values() for packed in one]
    assert made.opened(asked, sums_).tolist() == made.sum(asked).tolist()


def _found(asked: Open, name: str) -> dict[ClientId, WhyUnfit]:
    """Whom the keyholder of this name calls unfit."""
    keeper = Keeper(
        federation=FEDERATION,
        federation_key=signing.public_key(FEDERATION_PRIVATE),
        name=ClientId(name),
    )
    try:
        sums.shares(asked, keeper, PAIRS[name][0])
    except Unfit as bad:
        return bad.clients
    return {}


def test_so_many_are_named_as_a_message_has_room_for() -> None:
    no: tuple[WhyUnfit, str] = ("seal", "no")
    faults = {ClientId(f"c{number}"): no for number in range(UNFIT_MAX + 5)}
    assert list(Unfit(faults).clients) == list(faults)[:UNFIT_MAX]
    assert str(Unfit(faults)) == f"no; no; no; and {UNFIT_MAX + 2} more"


def test_a_clients_seeds_are_in_no_traceback() -> None:
    assert repr(sums.Share(1, (b"secret" * 6,))) == "<a client's seeds>"

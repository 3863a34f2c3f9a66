"""What a keyholder opens: decided without a disk and without a key."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from fedmqtt.masking import listing
from fedmqtt.messages import Entry, Keyholder, Masked, Masking, Open, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from keyholder import rules
from keyholder.listed import Listed
from keyholder.rules import (
    AddedUp,
    AddUp,
    Answer,
    Asked,
    Check,
    Checked,
    Effect,
    Event,
    Failed,
    Finish,
    Finished,
    KeysChanged,
    Received,
    Refuse,
    Rules,
    State,
    WriteDown,
    step,
)

RULES = Rules(name=ClientId("kh-a"), serves=("keyholders",))
PUBLIC = b"p" * 32
DIGESTS = (b"1" * 32, b"2" * 32)


def _key(number: int = 7, public: bytes = PUBLIC) -> RoundKey:
    return RoundKey(number, public, b"s" * 64)


def _masking(number: int = 7, **changes: Any) -> Masking:
    asked = Masking(
        mode="keyholders",
        keyholders=(
            Keyholder(ClientId("kh-a"), 0, _key(number)),
            Keyholder(ClientId("kh-b"), 1, _key(1, b"b" * 32)),
        ),
        places=3,
        tolerated=1,
        floor=2,
        bits=20,
        value_bits=12,
        change_max=1.0,
    )
    return structs.replace(asked, **changes)


def _entry(client: str) -> Entry:
    masked = Masked(
        exchange=b"x" * 32,
        sealed=(b"a", b"b"),
        key=client.encode().ljust(32, b"k"),
        ticket=b"t" * 64,
        signature=b"s" * 64,
    )
    return Entry(ClientId(client), 1, b"d" * 32, masked)


def _open(clients: Sequence[str] = ("ann", "bob"), **changes: Any) -> Open:
    whole = Open(
        run=RunId("r"),
        round=RoundId(3),
        base=Digest("a" * 64),
        masking=_masking(),
        body=10,
        tail=3,
        digest=bytes(32),
        part=0,
        parts=1,
        entries=tuple(map(_entry, clients)),
        seeds=(1,),
    )
    whole = structs.replace(whole, **changes)
    return structs.replace(whole, digest=listing.digest(whole))


def _run(*events: Event, keys: Sequence[int] = (7, 8), rules_: Rules = RULES) -> list[Effect]:
    """What the last of these events leads to."""
    state = State(keys=dict.fromkeys(keys, PUBLIC))
    effects: list[Effect] = []
    for event in events:
        state, effects = step(state, event, rules_)
    return effects


def _reason(effects: Sequence[Effect]) -> str:
    (effect,) = effects
    assert isinstance(effect, Refuse)
    return effect.reason


def _opened(asked: Open) -> list[Event]:
    """All that happens until a list is answered."""
    listed = Listed(
        number=7,
        digest=asked.digest,
        run=asked.run,
        round=asked.round,
        clients=len(asked.entries),
        held=(1, 2),
        seeds=asked.seeds,
        digests=DIGESTS,
    )
    return [
        Asked(asked),
        Checked(asked.digest),
        AddedUp(asked.digest, DIGESTS),
        Finished(listed),
    ]


def test_a_list_is_checked_and_written_down_before_anything_is_added_up() -> None:
    asked = _open()
    come = _opened(asked)
    assert _run(come[0]) == [Check(asked, 7)]
    wrote, adds = _run(*come[:2])
    assert isinstance(wrote, WriteDown) and isinstance(adds, AddUp)
    assert (wrote.listed.number, wrote.listed.digest) == (7, asked.digest)
    (finish,) = _run(*come[:3])
    assert isinstance(finish, Finish) and finish.listed.digests == DIGESTS
    assert _run(*come) == [Answer(finish.listed)]


def test_the_same_list_is_answered_again_and_checked_no_more() -> None:
    asked = _open()
    (first,) = _run(*_opened(asked))
    # Its key's private half is gone by then.
    gone = [*_opened(asked), KeysChanged({8: PUBLIC})]
    assert _run(*gone, Asked(asked)) == [first]


def test_other_seeds_of_the_same_list_are_answered_too() -> None:
    asked, other = _open(), _open(seeds=(2,))
    assert other.digest == asked.digest
    come = [*_opened(asked), KeysChanged({})]
    # With what it was asked for before, until the coordinator has that.
    wrote, answer = _run(*come, Asked(other))
    assert isinstance(wrote, WriteDown) and answer == Answer(wrote.listed)
    assert wrote.listed.seeds == (1, 2)
    (again,) = _run(*come, Asked(other), Asked(asked))
    assert again == answer
    received = Received(asked.run, asked.round)
    (told,) = _run(*come, received)
    assert isinstance(told, WriteDown) and told.listed.is_received
    wrote, _ = _run(*come, received, Asked(other))
    assert isinstance(wrote, WriteDown)
    assert (wrote.listed.seeds, wrote.listed.is_received) == ((2,), False)
    assert _run(*come, received, received) == []
    assert _run(*come, Received(RunId("another"), asked.round)) == []


@pytest.mark.parametrize("until", [2, 3, 4])
def test_another_list_for_the_same_key_is_refused_from_when_one_is_written_down(until: int) -> None:
    first, second = _open(["ann", "bob", "cat"]), _open(["ann", "bob"])
    reason = _reason(_run(*_opened(first)[:until], Asked(second)))
    assert reason == (
        "key 7 is for another list, of round 3 of run r with 3 clients: a sum of others is not"
        " opened with it"
    )


def test_a_list_that_was_refused_uses_up_nothing() -> None:
    first, second = _open(["ann", "bob", "cat"]), _open(["ann", "bob"])
    assert _reason(_run(Asked(first), Checked(first.digest, "forged"))) == "forged"
    again = _run(Asked(first), Checked(first.digest, "forged"), Asked(second))
    assert again == [Check(second, 7)]


def test_a_list_that_comes_meanwhile_waits_and_is_judged_by_what_was_opened() -> None:
    first, second, third = _open(["ann", "bob"]), _open(["ann", "cat"]), _open(["bob", "cat"])
    come = _opened(first)
    # The newest of those that wait; the first is opened.
    *_, last = _run(come[0], Asked(second), Asked(third), *come[1:])
    assert isinstance(last, Refuse) and last.open == third and "is for another list" in last.reason
    # Were it refused, the other one would have its turn.
    refused, check = _run(come[0], Asked(second), Checked(first.digest, "forged"))
    assert isinstance(refused, Refuse) and check == Check(second, 7)


def test_asked_again_while_it_is_added_up_it_answers_all_that_was_asked() -> None:
    asked, other = _open(), _open(seeds=(2,))
    (finish,) = _run(
        Asked(asked), Checked(asked.digest), Asked(other), AddedUp(asked.digest, DIGESTS)
    )
    assert isinstance(finish, Finish) and finish.listed.seeds == (1, 2)


def test_after_a_failure_the_same_list_may_be_asked_again_and_no_other() -> None:
    first, second = _open(["ann", "bob", "cat"]), _open(["ann", "bob"])
    come: list[Event] = [Asked(first), Checked(first.digest), Failed(first.digest, "it is full")]
    assert _reason(_run(*come)) == "it is full"
    assert "is for another list" in _reason(_run(*come, Asked(second)))
    assert _run(*come, Asked(first)) == [Check(first, 7)]


def test_what_is_said_of_a_list_that_is_not_in_work_changes_nothing() -> None:
    first, second = _open(["ann", "bob"]), _open(["ann", "cat"])
    for event in (Checked(second.digest), AddedUp(second.digest, ()), Failed(second.digest, "x")):
        assert _run(Asked(first), event) == []
        assert _run(event) == []


A, B = _masking().keyholders

REFUSED = {
    "too few for the offer": (_open(["ann"]), "a sum of 1 clients: 2 are the fewest"),
    "nobody": (_open([]), "a sum of 0 clients"),
    "one client twice": (_open(["ann", "bob", "ann"]), "ann is in the list 2 times"),
    "one client more often than the others": (
        _open(entries=(_entry("ann"), structs.replace(_entry("bob"), times=8))),
        "bob is to be in the sum 8 times, and not once",
    ),
    "one client by two names": (
        _open(entries=(_entry("ann"), structs.replace(_entry("bob"), masked=_entry("ann").masked))),
        "ann and bob have one key, and count as one client",
    ),
    "two halves that could open two sums": (
        _open(
            masking=_masking(
                places=4,
                keyholders=(
                    *(A, B),
                    structs.replace(B, name=ClientId("kh-c"), place=2),
                    structs.replace(B, name=ClientId("kh-d"), place=3),
                ),
            )
        ),
        "4 keyholders, any 2 of whom open a sum: two halves of them could be shown two lists",
    ),
    "no such key": (
        _open(masking=_masking(number=6)),
        "there is no key 6 of kh-a, or not any more",
    ),
    "a key of the same number": (
        _open(masking=_masking(keyholders=(Keyholder(A.name, 0, _key(7, b"q" * 32)), B))),
        "key 7 of kh-a is another one than this list says",
    ),
    "others' keyholders": (_open(masking=_masking(keyholders=(B,))), "kh-a is named 0 times"),
    "in two places": (
        _open(masking=_masking(keyholders=(A, structs.replace(A, place=1)))),
        "kh-a is named 2 times",
    ),
    "another mode": (
        _open(masking=_masking(mode="trusted", places=1, tolerated=0, keyholders=(A,)), seeds=(0,)),
        "kh-a opens sums in mode keyholders, not trusted",
    ),
    "nobody tolerated": (_open(masking=_masking(tolerated=0)), "is none in mode keyholders"),
    "all tolerated": (_open(masking=_masking(tolerated=3)), "is none in mode keyholders"),
    "a place that is not there": (
        _open(masking=_masking(keyholders=(structs.replace(A, place=3), B))),
        "place 3 of 3 keyholders",
    ),
    "a seed that it lacks": (_open(seeds=(1, 0)), "seed 0 is not held by kh-a, at place 0"),
    "a seed twice": (_open(seeds=(1, 1)), "one seed is asked for twice"),
    "too long": (_open(body=2**28), "a sum of 268435459 values: 268435456 are the most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_list_that_is_not_in_order_is_refused_unread(case: str) -> None:
    asked, reason = REFUSED[case]
    assert reason in _reason(_run(Asked(asked)))


def test_a_keyholder_may_ask_for_more_clients_than_the_round() -> None:
    strict = Rules(name=ClientId("kh-a"), serves=("keyholders",), floor=3)
    assert "3 are the fewest" in _reason(_run(Asked(_open()), rules_=strict))
    assert len(_run(Asked(_open(["ann", "bob", "cat"])), rules_=strict)) == 1


def test_one_that_is_trusted_alone_holds_the_only_seed() -> None:
    alone = _masking(mode="trusted", places=1, tolerated=0, keyholders=(A,))
    asked = _open(masking=alone, seeds=(0,))
    trusted = Rules(name=ClientId("kh-a"), serves=("trusted",))
    assert _run(Asked(asked), rules_=trusted) == [Check(asked, 7)]
    assert rules.held(alone, ClientId("kh-a")) == (0,)
    assert "opens sums in mode trusted" in _reason(_run(Asked(_open()), rules_=trusted))

"""What a keyholder opens: decided without a disk and without a key."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from fedmqtt.masking import listing
from fedmqtt.messages import Answered, Entry, Keyholder, Masked, Masking, Open, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from keyholder import rules
from keyholder.listed import Listed, Mode
from keyholder.rules import (
    AddedUp,
    AddUp,
    Answer,
    Asked,
    Check,
    Checked,
    Count,
    Effect,
    Event,
    Failed,
    Finish,
    Finished,
    Fit,
    KeysChanged,
    Received,
    Refuse,
    Rules,
    State,
    WriteDown,
    step,
)

RULES = Rules(name=ClientId("kh-a"), serves=("keyholders",), mixed_rounds=True)
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
        signature=b"s" * 64,
    )
    key, ticket = client.encode().ljust(32, b"k"), b"t" * 64
    return Entry(ClientId(client), 1, b"d" * 32, masked, key, ticket)


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


def test_a_list_that_is_only_looked_at_leaves_no_trace_and_uses_up_nothing() -> None:
    asked, other = _open(["ann", "bob", "cat"], looks=True), _open(["ann", "bob"])
    assert asked.digest == _open(["ann", "bob", "cat"]).digest
    assert _run(Asked(asked)) == [Check(asked, 7)]
    assert _run(Asked(asked), Checked(asked.digest)) == [Fit(asked)]
    unfit = Checked(asked.digest, "cat sealed nonsense", {ClientId("cat"): "seal"})
    assert _run(Asked(asked), unfit) == [
        Refuse(asked, "cat sealed nonsense", {ClientId("cat"): "seal"})
    ]
    for said in (Checked(asked.digest), unfit):
        assert _run(Asked(asked), said, Asked(other)) == [Check(other, 7)]


def test_what_was_found_to_be_fit_is_not_looked_at_again() -> None:
    looks, other = _open(["ann", "bob", "cat"], looks=True), _open(["ann", "bob"], looks=True)
    earnest = structs.replace(looks, looks=False)
    looked: list[Event] = [Asked(looks), Checked(looks.digest)]
    assert _run(*looked, Asked(looks)) == [Fit(looks)]
    # Who is in it is counted all the same, before anything is added up.
    assert _run(*looked, Asked(earnest)) == [Count(earnest)]
    wrote, adds = _run(*looked, Asked(earnest), Checked(earnest.digest))
    assert isinstance(wrote, WriteDown) and adds == AddUp(earnest, 7)
    # The seeds in memory are of the list that was looked at last.
    assert _run(*looked, Asked(other), Checked(other.digest), Asked(earnest)) == [Check(earnest, 7)]
    unfit = Checked(other.digest, "bob sealed nonsense", {ClientId("bob"): "seal"})
    assert _run(*looked, Asked(other), unfit, Asked(earnest)) == [Check(earnest, 7)]
    # Nor are they there any more once they are added up.
    failed: list[Event] = [Asked(earnest), Failed(earnest.digest, "it is full")]
    assert _run(*looked, *failed, Asked(earnest)) == [Check(earnest, 7)]
    # What has changed meanwhile is seen all the same.
    assert "there is no key 7" in _reason(_run(*looked, KeysChanged({}), Asked(earnest)))


def test_a_list_that_is_asked_for_while_it_is_looked_at_is_opened() -> None:
    earnest = _open()
    looks = structs.replace(earnest, looks=True, seeds=())
    for first, then in ((looks, earnest), (earnest, looks)):
        wrote, adds = _run(Asked(first), Asked(then), Checked(earnest.digest))
        assert isinstance(wrote, WriteDown) and adds == AddUp(earnest, 7)


def test_what_was_opened_is_fit_and_another_list_for_its_key_is_not() -> None:
    asked = _open(["ann", "bob", "cat"])
    looks = structs.replace(asked, looks=True)
    assert _run(*_opened(asked), KeysChanged({}), Asked(looks)) == [Fit(looks)]
    other = _open(["ann", "bob"], looks=True)
    assert "is for another list" in _reason(_run(*_opened(asked), Asked(other)))
    assert "is for another list" in _reason(_run(*_opened(asked)[:2], Asked(other)))


def test_of_those_that_have_one_key_all_but_the_first_are_unfit() -> None:
    twins = [structs.replace(_entry(name), key=_entry("ann").key) for name in ("bob", "cat")]
    (refused,) = _run(Asked(_open(entries=(_entry("ann"), *twins, _entry("dan")))))
    assert isinstance(refused, Refuse) and refused.unfit == {"bob": "twin", "cat": "twin"}


def test_what_is_said_of_a_list_that_is_not_in_work_changes_nothing() -> None:
    first, second = _open(["ann", "bob"]), _open(["ann", "cat"])
    for event in (Checked(second.digest), AddedUp(second.digest, ()), Failed(second.digest, "x")):
        assert _run(Asked(first), event) == []
        assert _run(event) == []


def test_a_list_that_was_looked_at_is_as_if_it_had_not_been_once_its_key_is_gone() -> None:
    looks = _open(looks=True)
    state = State(keys={7: PUBLIC, 8: PUBLIC})
    for event in (Asked(looks), Checked(looks.digest)):
        state, _ = step(state, event, RULES)
    assert (state.fit, state.fit_key) == (looks.digest, 7)
    # Others may go.
    state, _ = step(state, KeysChanged({7: PUBLIC}), RULES)
    assert state.fit
    state, _ = step(state, KeysChanged({8: PUBLIC}), RULES)
    assert (state.fit, state.fit_key) == (b"", 0)


@pytest.mark.parametrize("looks", [True, False])
def test_a_list_whose_key_goes_while_it_is_checked_is_not_opened(looks: bool) -> None:
    asked = _open(looks=looks)
    gone = KeysChanged({8: PUBLIC})
    assert _reason(_run(Asked(asked), gone, Checked(asked.digest))) == (
        "key 7 was deleted meanwhile: nothing is opened with it any more"
    )


SEVERAL = _masking(lists_max=2, times_max=8)


def _of_several(clients: Sequence[str], number: int, **changes: Any) -> Open:
    """The list of this number; each client's answer to each is another one."""
    entries = tuple(
        structs.replace(one, masked=structs.replace(one.masked, exchange=one.key))
        for one in map(_entry, clients)
    )
    return _open(entries=entries, masking=SEVERAL, round=RoundId(number), **changes)


def _run_on(*lists: Open) -> tuple[State, list[Effect]]:
    """All of them answered, as far as they are; and what the last of them leads to."""
    state = State(keys={7: PUBLIC, 8: PUBLIC})
    effects: list[Effect] = []
    for one in lists:
        state, effects = step(state, Asked(one), RULES)
        if not isinstance(effects[0], Check):
            continue
        state, effects = step(state, Checked(one.digest), RULES)
        state, finish = step(state, AddedUp(one.digest, DIGESTS), RULES)
        assert isinstance(finish[0], Finish)
        state, _ = step(state, Finished(finish[0].listed), RULES)
    return state, effects


def test_a_key_for_several_lists_opens_those_that_have_no_answer_in_common() -> None:
    first, second = _of_several(["ann", "bob"], 3), _of_several(["cat", "dan"], 4)
    state, (wrote, adds) = _run_on(first)
    assert isinstance(wrote, WriteDown) and isinstance(adds, AddUp) and wrote.taken is not None
    assert wrote.listed.opens_more and wrote.taken.lists == 1
    assert len(wrote.taken.answers) == 2
    _, effects = _run_on(first, _of_several(["bob", "cat"], 4))
    assert _reason(effects) == (
        "the answer of bob was on another list of key 7: what two sums with it differ by could be"
        " its own"
    )
    assert isinstance(effects[0], Refuse) and not effects[0].unfit
    state, (wrote, _) = _run_on(first, second)
    assert isinstance(wrote, WriteDown) and wrote.taken is not None
    # It is the last one: its key is done with.
    assert not wrote.listed.opens_more and wrote.taken.lists == 2
    _, effects = _run_on(first, second, _of_several(["eve", "fay"], 5))
    assert _reason(effects) == "key 7 was for 2 lists, and is for no more"
    # Without the key it is known no more, and not needed.
    assert step(state, KeysChanged({8: PUBLIC}), RULES)[0].taken == {}


def test_of_several_lists_the_newest_is_answered_again_and_an_older_one_is_not() -> None:
    first, second = _of_several(["ann", "bob"], 3), _of_several(["cat", "dan"], 4)
    _, (answer,) = _run_on(first, second, second)
    assert isinstance(answer, Answer) and answer.listed.digest == second.digest
    assert _run_on(first, second, structs.replace(second, looks=True))[1][0] == Fit(
        structs.replace(second, looks=True)
    )
    _, effects = _run_on(first, second, first)
    assert _reason(effects) == "key 7 was for 2 lists, and is for no more"


def test_a_list_that_was_written_down_and_not_opened_may_be_asked_for_again() -> None:
    """As after a kill, or on a disk that was full; also where the book knows nothing of it yet."""
    first = _of_several(["ann", "bob"], 3)
    begun: list[Event] = [Asked(first), Checked(first.digest)]
    state = State(keys={7: PUBLIC})
    for event in begun:
        state, effects = step(state, event, RULES)
    wrote = effects[0]
    assert isinstance(wrote, WriteDown) and wrote.taken is not None
    for lists in ({}, {7: wrote.listed}):
        again = State(keys={7: PUBLIC}, taken={7: wrote.taken}, lists=lists)
        again, effects = step(again, Asked(first), RULES)
        assert effects == [Check(first, 7)]
        again, effects = step(again, Checked(first.digest), RULES)
        assert isinstance(effects[0], WriteDown) and effects[0].taken == wrote.taken
        # Another one that has an answer of it is refused all the same.
        state = State(keys={7: PUBLIC}, taken={7: wrote.taken}, lists=lists)
        _, effects = step(state, Asked(_of_several(["ann", "cat"], 4)), RULES)
        assert "the answer of ann was on another list" in _reason(effects)


def test_a_key_is_for_answers_of_one_kind() -> None:
    first = _of_several(["ann", "bob"], 3)
    entries = _of_several(["cat", "dan"], 4).entries
    for other in (
        _open(entries=entries, masking=structs.replace(SEVERAL, times_max=1)),
        _open(entries=entries, masking=SEVERAL, run=RunId("another")),
        _open(entries=entries),
    ):
        reason = _reason(_run_on(first, other)[1])
        assert reason == "key 7 is for answers of run r that are masked otherwise"
    # And one that was for a single list is for no others.
    single = _open(["ann", "bob"])
    assert "is for another list" in _reason(_run_on(single, _of_several(["cat", "dan"], 4))[1])


def test_enough_clients_are_in_a_sum_each_number_of_times() -> None:
    four = _of_several(["ann", "bob", "cat", "dan"], 3).entries

    def asked(*times: int) -> list[Effect]:
        pairs = zip(four, times, strict=True)
        entries = tuple(structs.replace(one, times=often) for one, often in pairs)
        return _run(Asked(_open(entries=entries, masking=SEVERAL)))

    for fine in ((1, 1, 8, 8), (3, 3, 3, 3), (2, 5, 5, 2)):
        assert isinstance(asked(*fine)[0], Check)
    assert _reason(asked(1, 8, 8, 8)) == (
        "a sum of 1 clients 1 times each: 2 are the fewest that it is opened of"
    )
    assert "a sum of 1 clients 2 times each" in _reason(asked(2, 3, 4, 4))
    assert "up to 2" in _reason(
        _run(
            Asked(
                _open(
                    masking=_masking(times_max=2),
                    entries=[structs.replace(one, times=3) for one in four],
                )
            )
        )
    )


A, B = _masking().keyholders
C = Keyholder(ClientId("kh-c"), 2, _key(1, b"c" * 32))

REFUSED = {
    "too few for the offer": (_open(["ann"]), "a sum of 1 clients: 2 are the fewest"),
    "nobody": (_open([]), "a sum of 0 clients"),
    "one client twice": (_open(["ann", "bob", "ann"]), "ann is in the list 2 times"),
    "one client more often than the others": (
        _open(entries=(_entry("ann"), structs.replace(_entry("bob"), times=8))),
        "bob is to be in the sum 8 times, and not once",
    ),
    "one client by two names": (
        _open(entries=(_entry("ann"), structs.replace(_entry("bob"), key=_entry("ann").key))),
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
    "nobody tolerated": (_open(masking=_masking(tolerated=0)), "that is not 'keyholders'"),
    "all tolerated": (_open(masking=_masking(tolerated=3)), "that is not 'keyholders'"),
    "a place that is not there": (
        _open(masking=_masking(keyholders=(structs.replace(A, place=3), B))),
        "in places 3, 1: that is not 'keyholders'",
    ),
    "a seed that it lacks": (_open(seeds=(1, 0)), "seed 0 is not held by kh-a, at place 0"),
    "a seed twice": (_open(seeds=(1, 1)), "one seed is asked for twice"),
    "more keyholders than open a sum": (
        _open(masking=_masking(lists_max=2, keyholders=(A, B, C))),
        "2 lists may be opened with one key of each of 3 keyholders, and 2 open a sum",
    ),
    "measured of several models": (
        _open(masking=_masking(lists_max=2, metrics=("loss",))),
        "what clients measure, or tell of blocks, is of one model",
    ),
    "answers to more than there are": (
        _open(answered=(Answered(RoundId(2), Digest("a" * 64), 3),)),
        "of 2 entries not all are said to answer something, or more",
    ),
    "a committee's, of whole answers": (
        _open(masking=_masking(mode="committee", guard=8)),
        "a sum of 10 and 3 numbers: of a committee's clients it is of their keys, 2048 and none",
    ),
    "a committee's, with too little room": (
        _open(masking=_masking(mode="committee", guard=3), body=2048, tail=0),
        "with a committee there are 7 to 15 guard bits, not 3",
    ),
    "a committee's, of two halves": (
        _open(
            masking=_masking(
                mode="committee",
                guard=8,
                places=4,
                keyholders=(
                    *(A, B),
                    structs.replace(B, name=ClientId("kh-c"), place=2),
                    structs.replace(B, name=ClientId("kh-d"), place=3),
                ),
            ),
            body=2048,
            tail=0,
        ),
        "4 keyholders, any 2 of whom open a sum: two halves of them could be shown two lists",
    ),
    "answers to several models": (
        _open(
            answered=(
                Answered(RoundId(3), Digest("a" * 64), 1),
                Answered(RoundId(3), Digest("b" * 64), 1),
            )
        ),
        "answers to 2 models are not added up where the offer is of one",
    ),
    "too long": (_open(body=2**28), "a sum of 268435459 values: 268435456 are the most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_list_that_is_not_in_order_is_refused_unread(case: str) -> None:
    asked, reason = REFUSED[case]
    serves: tuple[Mode, ...] = RULES.serves
    if asked.masking.mode == "committee":
        serves = ("committee",)
    assert reason in _reason(_run(Asked(asked), rules_=replace(RULES, serves=serves)))


def test_a_committees_list_is_opened_by_who_said_that_it_serves_in_one() -> None:
    asked = _open(masking=_masking(mode="committee", guard=8), body=2048, tail=0)
    serves = replace(RULES, serves=("committee",))
    assert _run(Asked(asked), rules_=serves) == [Check(asked, 7)]
    assert _reason(_run(Asked(asked))) == "kh-a opens sums in mode keyholders, not committee"


def test_a_keyholder_may_ask_for_more_clients_than_the_round() -> None:
    strict = Rules(name=ClientId("kh-a"), serves=("keyholders",), floor=3)
    assert _reason(_run(Asked(_open()), rules_=strict)) == (
        "a sum of 2 clients: 3 are the fewest that kh-a opens one of, whatever the federation's"
        " floor; if fewer are right, start it with --floor"
    )
    assert len(_run(Asked(_open(["ann", "bob", "cat"])), rules_=strict)) == 1


def test_a_keyholder_may_ask_that_more_of_them_learn_nothing_than_the_round_does() -> None:
    strict = replace(RULES, serves=("keyholders", "trusted"), tolerated=2)
    assert _reason(_run(Asked(_open()), rules_=strict)) == (
        "2 keyholders together could open an answer, and kh-a opens sums where that takes 3; if"
        " fewer are right, start it with --tolerated 1"
    )
    others = (Keyholder(ClientId(f"kh-{at}"), at, _key(1, bytes([at] * 32))) for at in (1, 2, 3))
    of_four = _masking(places=4, tolerated=2, keyholders=(A, *others))
    asked = _open(masking=of_four, seeds=())
    assert _run(Asked(asked), rules_=strict) == [Check(asked, 7)]
    # Where one is trusted there are no others.
    alone = _open(
        masking=_masking(mode="trusted", places=1, tolerated=0, keyholders=(A,)), seeds=(0,)
    )
    assert _run(Asked(alone), rules_=strict) == [Check(alone, 7)]


def test_sums_of_answers_to_several_models_are_opened_by_who_was_told_to() -> None:
    one_model = Rules(name=ClientId("kh-a"), serves=("keyholders",))
    for how in (_masking(lists_max=2), _masking(times_max=8)):
        mixed = _open(["ann", "bob"], masking=how)
        assert _run(Asked(mixed)) == [Check(mixed, 7)]
        assert _reason(_run(Asked(mixed), rules_=one_model)) == (
            "answers to several models may be in one sum, as in asynchronous rounds, and kh-a opens"
            " those where all are to one; if that is right, start it with --mixed-rounds"
        )
    assert _run(Asked(_open()), rules_=one_model) == [Check(_open(), 7)]


def test_one_that_is_trusted_alone_holds_the_only_seed() -> None:
    alone = _masking(mode="trusted", places=1, tolerated=0, keyholders=(A,))
    asked = _open(masking=alone, seeds=(0,))
    trusted = Rules(name=ClientId("kh-a"), serves=("trusted",))
    assert _run(Asked(asked), rules_=trusted) == [Check(asked, 7)]
    assert rules.held(alone, ClientId("kh-a")) == (0,)
    assert "opens sums in mode trusted" in _reason(_run(Asked(_open()), rules_=trusted))

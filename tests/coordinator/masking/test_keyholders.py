"""Which keyholders are there, and by which of their keys the next round is masked."""

from msgspec import structs

from coordinator.masking.keyholders import Keyholders
from fedmqtt.masking import sealing
from fedmqtt.messages import Presence, RoundKey
from fedmqtt.topics import ClientId
from tests.coordinator.masked_room import Keys

A, B, C = (ClientId(f"kh-{one}") for one in "abc")
KEYS = Keys("ward-7", A, B, C)


def keyholders(**used: int) -> Keyholders:
    found = {ClientId(name.replace("_", "-")): number for name, number in used.items()}
    return Keyholders("ward-7", KEYS.trust.keyholders, 3, 1, found, answers_max=9)


def presence(name: ClientId, *numbers: int, session: str = "1") -> Presence:
    keys = tuple(KEYS.round_key(name, one, sealing.new_round_key()[1]) for one in numbers)
    return Presence(online=True, session=session, keys=keys)


def numbers(held: Keyholders) -> dict[str, int] | None:
    found = held.next()
    return None if found is None else {one.name: one.key.number for one in found}


def test_a_round_needs_so_many_that_they_hold_all_seeds() -> None:
    held = keyholders()
    assert held.next() is None
    held.came(A, presence(A, 1))
    assert held.next() is None
    held.came(C, presence(C, 4))
    assert numbers(held) == {A: 1, C: 4}
    held.came(B, presence(B, 2))
    assert numbers(held) == {A: 1, B: 2, C: 4}


def test_no_number_is_used_twice_also_after_a_restart() -> None:
    held = keyholders(kh_a=5)
    for name in (A, B):
        held.came(name, presence(name, 7, 6, 5, 4))
    found = held.next()
    assert found is not None and numbers(held) == {A: 6, B: 4}
    held.use(found)
    assert numbers(held) == {A: 7, B: 5}
    held.use(held.next() or ())
    assert held.next() is None
    assert held.told()[A] == "no unused round key"
    # An older offer, read again, takes nothing back.
    held.use(found)
    assert held.next() is None


def test_who_is_away_is_not_counted_on_and_an_old_connections_end_is_not_its() -> None:
    held = keyholders()
    held.came(A, presence(A, 1))
    held.came(B, presence(B, 1, session="2"))
    assert not held.left(B, "1")
    assert numbers(held) == {A: 1, B: 1}
    assert held.left(B, "2")
    assert held.next() is None
    assert held.told() == {A: "ready", B: "away", C: "never seen"}
    assert held.waiting() == (
        "waiting for keyholders: 2 of 3 are needed with a round key; without one: kh-b (away),"
        " kh-c (never seen)"
    )


def test_keys_that_it_did_not_sign_are_not_taken() -> None:
    held = keyholders()
    held.came(B, presence(B, 1))
    (good,) = presence(A, 1).keys
    others = presence(B, 2).keys
    changed = RoundKey(3, good.public, good.signature)
    forged = structs.replace(presence(A), keys=(*others, changed))
    assert held.came(A, forged) == "publishes round keys that it has not signed: 2"
    assert held.next() is None
    held.came(A, structs.replace(forged, keys=(*forged.keys, good)))
    assert numbers(held) == {A: 1, B: 1}


def test_those_beyond_the_places_are_none_of_this_run() -> None:
    held = Keyholders("ward-7", KEYS.trust.keyholders, 1, 0, {}, answers_max=9)
    assert (held.place(A), held.place(B)) == (0, None)
    held.came(A, presence(A, 1))
    assert numbers(held) == {A: 1}


def test_who_opens_no_sum_of_so_few_is_told_before_anybody_trains() -> None:
    held = keyholders()
    for name, floor in ((A, 9), (B, 10)):
        held.came(name, structs.replace(presence(name, 1), floor=floor))
    assert held.next() is None
    assert held.told()[B] == (
        "it opens no sum of fewer than 10 answers, and a round has 9 at most: start it with a lower"
        " --floor if that is right"
    )
    held.came(B, structs.replace(presence(B, 1), floor=9))
    assert numbers(held) == {A: 1, B: 1}

"""Who is drawn is the same on both sides, for ever: by vectors, and by the definition."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmqtt import sortition
from fedmqtt.messages import EVERYBODY, Purpose, Sortition
from fedmqtt.topics import ClientId, RoundId
from tests.offers import offer

ANN, BOB = ClientId("ann"), ClientId("bob")
OFFER = offer(3, evaluate=(BOB,))

# As `printf '7-0123456789abcdef/1/train/ann' | sha256sum | cut -c 1-14` has it.
VECTORS: list[tuple[str, int, Purpose, str, str]] = [
    ("7-0123456789abcdef", 1, "train", "ann", "ef30421ae8984a"),
    ("7-0123456789abcdef", 1, "evaluate", "ann", "d321e3092b2313"),
    ("7-0123456789abcdef", 2, "train", "ann", "3eac0f7777a81b"),
    ("7-0123456789abcdef", 1, "train", "bob", "ebb9481c65b747"),
    ("8-0123456789abcdef", 1, "train", "ann", "211d5d65f309fe"),
]


@pytest.mark.parametrize(("salt", "number", "purpose", "client", "drawn"), VECTORS)
def test_a_draw_is_what_it_was(
    salt: str, number: int, purpose: Purpose, client: str, drawn: str
) -> None:
    said = sortition.draws(salt, RoundId(number), purpose, [ClientId(client)])
    assert said == [int(drawn, 16)]


def test_each_has_its_own_draw_in_the_order_in_which_they_are_named() -> None:
    clients = [ClientId(f"c{number}") for number in range(50)]
    drawn = sortition.draws("s", RoundId(9), "evaluate", clients)
    assert drawn == [
        int(hashlib.sha256(f"s/9/evaluate/{client}".encode()).hexdigest()[:14], 16)
        for client in clients
    ]
    assert all(0 <= one < EVERYBODY for one in drawn)


@given(st.sets(st.integers(0, EVERYBODY - 1)).map(list), st.integers(0, 30))
def test_below_the_threshold_are_as_many_as_are_wanted(drawn: list[int], count: int) -> None:
    threshold = sortition.threshold(drawn, count)
    assert sum(one < threshold for one in drawn) == min(count, len(drawn))
    assert 0 <= threshold <= EVERYBODY
    assert threshold == EVERYBODY or count < len(drawn)


def test_whoever_draws_most_is_below_the_threshold_of_everybody() -> None:
    assert sortition.threshold([EVERYBODY - 1, 5], 2) == EVERYBODY
    assert sortition.threshold([EVERYBODY - 1, 5], 1) == 6
    assert sortition.threshold([7, 5], 0) == 0, "nobody draws less"


def test_who_is_invited_by_name() -> None:
    assert sortition.invites(OFFER, ANN, "train") and not sortition.invites(OFFER, ANN, "evaluate")
    assert sortition.invites(OFFER, BOB, "evaluate") and not sortition.invites(OFFER, BOB, "train")


def test_who_is_invited_by_sortition_has_drawn_less_than_the_threshold() -> None:
    [train] = sortition.draws("s", OFFER.round, "train", [BOB])
    [evaluate] = sortition.draws("s", OFFER.round, "evaluate", [BOB])
    for more_train, more_evaluate in ((0, 1), (1, 0)):
        rule = Sortition(salt="s", train=train + more_train, evaluate=evaluate + more_evaluate)
        offer = structs.replace(OFFER, sortition=rule)
        assert sortition.invites(offer, BOB, "train") == bool(more_train)
        assert sortition.invites(offer, BOB, "evaluate") == bool(more_evaluate)
    nobody = structs.replace(OFFER, sortition=Sortition(salt="s", train=0, evaluate=0))
    assert not sortition.invites(nobody, ANN, "train"), "whom a list names has no part in it"


def test_a_draw_favours_nobody() -> None:
    """Of 20 clients, in 2,000 rounds of 5; a fair draw is within 5 standard deviations."""
    clients = [ClientId(f"c{number}") for number in range(20)]
    turns = dict.fromkeys(clients, 0)
    for number in range(2000):
        drawn = sortition.draws("s", RoundId(number), "train", clients)
        below = sortition.threshold(drawn, 5)
        for client, one in zip(clients, drawn, strict=True):
            turns[client] += one < below
    assert sum(turns.values()) == 10_000
    assert max(abs(count - 500) for count in turns.values()) < 5 * (2000 * 0.25 * 0.75) ** 0.5

"""Least recently invited first."""

from random import Random

from coordinator.known import Known
from coordinator.selection import round_robin
from fedmqtt.topics import ClientId, RoundId

ANN, BOB, CAT, DAN, EVE = FLEET = [ClientId(one) for one in ("ann", "bob", "cat", "dan", "eve")]
KNOWN = {
    ANN: Known(invited=1, invited_last=RoundId(4)),
    BOB: Known(invited=9, invited_last=RoundId(2)),
    CAT: Known(invited=1, invited_last=RoundId(3)),
    DAN: Known(label="phone"),
}


def select(count: int, seed: int) -> tuple[ClientId, ...]:
    return round_robin.select(FLEET, count, Random(seed), KNOWN, round_robin.Settings())


def test_who_never_was_comes_first_then_by_the_round_it_was_invited_to_last() -> None:
    assert select(2, 1) == (DAN, EVE)
    assert select(3, 1) == (BOB, DAN, EVE)
    assert select(4, 1) == (BOB, CAT, DAN, EVE)


def test_chance_decides_between_equals() -> None:
    assert {select(1, seed) for seed in range(20)} == {(DAN,), (EVE,)}

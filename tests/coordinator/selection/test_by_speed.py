"""The fastest, and some others."""

from random import Random

from coordinator.known import Known
from coordinator.selection import by_speed
from fedmqtt.topics import ClientId

ANN, BOB, CAT, DAN, EVE = FLEET = [ClientId(one) for one in ("ann", "bob", "cat", "dan", "eve")]
KNOWN = {
    ANN: Known(invited=3, answered=3, took_s=(9.0, 100.0, 8.0)),  # 9
    BOB: Known(invited=3, answered=1, took_s=(10.0,)),
    CAT: Known(invited=3, answered=2, took_s=(1.0, 11.0, 12.0)),  # 11
    DAN: Known(invited=3),
}


def select(count: int, explore: float, seed: int = 1) -> tuple[ClientId, ...]:
    settings = by_speed.Settings(explore=explore)
    return by_speed.select(FLEET, count, Random(seed), KNOWN, settings)


def test_by_the_median_then_who_is_new_and_who_never_answered_last() -> None:
    hardly = 1e-12
    assert select(1, hardly) == (ANN,)
    assert select(2, hardly) == (ANN, BOB)
    assert select(3, hardly) == (ANN, BOB, CAT)
    assert select(4, hardly) == (ANN, BOB, CAT, EVE)


def test_explored_are_those_that_are_new_and_then_any_of_the_slower() -> None:
    assert select(2, 0.5) == (ANN, EVE)
    rest = {select(4, 0.5, seed) for seed in range(50)}
    assert rest == {(ANN, BOB, CAT, EVE), (ANN, BOB, DAN, EVE)}

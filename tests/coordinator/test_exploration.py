"""Places for those of whom little is known."""

from random import Random

from coordinator import exploration
from coordinator.known import Known
from fedmqtt.topics import ClientId

FLEET = [ClientId(name) for name in "abcdefgh"]
KNOWN = {client: Known(invited=1) for client in FLEET[:5]}


def test_a_share_of_the_places_is_exact_on_average_also_of_few() -> None:
    chance = Random("places")
    assert exploration.places(10, 0.2, chance) == 2
    assert (exploration.places(7, 0.0, chance), exploration.places(7, 1.0, chance)) == (0, 7)
    drawn = [exploration.places(3, 0.1, chance) for _ in range(10_000)]
    # 0.3 each: 3,000 in all, and a standard deviation of 46.
    assert set(drawn) == {0, 1} and 2750 < sum(drawn) < 3250


def test_who_is_new_comes_first_and_then_anybody() -> None:
    chance = Random("draw")
    new = set(FLEET[5:])
    seen: set[ClientId] = set()
    for _ in range(200):
        assert set(exploration.draw(FLEET, 2, chance, KNOWN)) < new
        four = exploration.draw(FLEET, 4, chance, KNOWN)
        assert len(four) == len(set(four)) and set(four) > new
        seen.update(four)
    assert seen == set(FLEET)
    assert sorted(exploration.draw(FLEET, 8, chance, KNOWN)) == FLEET

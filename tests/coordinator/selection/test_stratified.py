"""Each label has its share."""

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Literal

from coordinator.known import Known
from coordinator.selection import stratified
from fedmqtt.topics import ClientId

PHONES = [ClientId(f"p{number:02}") for number in range(12)]
WATCHES = [ClientId(f"w{number}") for number in range(4)]
KNOWN = {
    **dict.fromkeys(PHONES, Known(label="phone")),
    **dict.fromkeys(WATCHES, Known(label="watch")),
}


def select(
    fleet: Iterable[ClientId], count: int, seed: int, shares: Literal["proportional", "even"]
) -> tuple[ClientId, ...]:
    settings = stratified.Settings(shares=shares)
    return stratified.select(sorted(fleet), count, Random(seed), KNOWN, settings)


def by_label(clients: Iterable[ClientId]) -> dict[str, int]:
    return dict(Counter(client[0] for client in clients))


def test_in_proportion_every_round_has_as_many_of_each_as_the_fleet() -> None:
    cohorts = [select([*PHONES, *WATCHES], 4, seed, "proportional") for seed in range(2000)]
    assert all(by_label(cohort) == {"p": 3, "w": 1} for cohort in cohorts)
    turns = Counter(client for cohort in cohorts for client in cohort)
    # A quarter of the rounds for each client, of either kind; the standard deviation is 19.
    assert all(400 < turns[client] < 600 for client in KNOWN)


def test_in_proportion_a_few_have_a_place_now_and_then() -> None:
    # 12 phones and 1 watch for 4 places: 4/13 of a place, rounded up or down.
    cohorts = [select([*PHONES, WATCHES[0]], 4, seed, "proportional") for seed in range(2600)]
    assert {by_label(cohort).get("w", 0) for cohort in cohorts} == {0, 1}
    # 800 expected; the standard deviation is 24.
    assert 680 < sum(WATCHES[0] in cohort for cohort in cohorts) < 920


def test_evenly_each_label_has_as_many_places_as_far_as_it_goes() -> None:
    fleet = [*PHONES, *WATCHES]
    assert by_label(select(fleet, 4, 1, "even")) == {"p": 2, "w": 2}
    assert by_label(select(fleet, 10, 1, "even")) == {"p": 6, "w": 4}
    odd = [by_label(select(fleet, 5, seed, "even"))["w"] for seed in range(400)]
    assert set(odd) == {2, 3}
    # The place that is left goes to either as often; the standard deviation is 10.
    assert 140 < odd.count(3) < 260


def test_who_has_no_label_is_of_a_kind_of_its_own() -> None:
    others = [ClientId("x1"), ClientId("x2")]
    assert by_label(select([*PHONES, *others], 4, 1, "even")) == {"p": 2, "x": 2}

"""A hundred thousand clients that say nothing, of which two hundred answer in each round."""

import pytest

from fedmqtt.topics import ClientId
from fleet_sim import quiet_fleet
from fleet_sim.quiet_fleet import Fleet, RoundSeen

CLIENTS = tuple(ClientId(f"device-{number:06}") for number in range(100_000))
COHORT = 200


def _rounds(declared: int, there: float, count: int, later: float | None = None) -> list[RoundSeen]:
    def share(number: int) -> float:
        return there if later is None or number <= count // 2 else later

    fleet = Fleet(clients=CLIENTS, there=share)
    return [*quiet_fleet.simulate(fleet, quiet_fleet.rules(declared, COHORT, count), seed=1)]


@pytest.mark.parametrize("there", [0.02, 0.5])
def test_about_a_cohort_is_at_work_however_few_are_there(there: float) -> None:
    found = _rounds(len(CLIENTS), there, 8)
    assert [one.round for one in found] == [*range(1, 9)]
    assert all(one.offer_bytes < 1024 for one in found)
    settled = found[3:]
    assert all(one.outcome == "averaged" and one.answered >= 0.8 * COHORT for one in settled)
    assert all(one.able < 1.5 * COHORT for one in settled)
    true = there * len(CLIENTS)
    assert settled[-1].expected.low / 1.2 < true < settled[-1].expected.high * 1.2


def test_a_fleet_ten_times_as_large_as_declared_is_found_out_in_the_first_round() -> None:
    first, *later = _rounds(len(CLIENTS) // 10, 1.0, 5)
    assert first.begun < first.drawn / 2, "most had not begun when the cohort was complete"
    assert all(one.able < 2 * COHORT for one in later[1:])


def test_who_are_back_in_the_morning_are_not_asked_as_often_as_by_night() -> None:
    found = _rounds(len(CLIENTS), 0.05, 10, later=0.5)
    assert found[5].able > 5 * COHORT, "it is not known before"
    assert all(one.able < 1.7 * COHORT for one in found[7:])

"""What fails on a device fails at the moments that its seed says, in virtual time as live."""

from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean

import pytest

from fedmqtt.topics import ClientId, RoundId
from fleet_sim.failures import TRAINER_DIED, TrainerCrashes, outages
from fleet_sim.fleet import Faults, Fleet
from fleet_sim.intervals import DAY_S
from fleet_sim.lab import Lab
from fleet_sim.live_client import LivePlan
from fleet_sim.live_run import plans
from tests.edge_client.jobs import job
from tests.fleet_sim.lab_fleets import at, fleet, names, protocol, samples

ANN = ClientId("ann")


def live_plans(of: Fleet, folder: Path) -> list[LivePlan]:
    """What the live mode does to the same fleet."""
    return list(plans(of, of.crew(names(of.config.clients)), samples, folder))


def test_outages_come_as_often_and_last_as_long_as_was_said() -> None:
    faults = Faults(reboots_per_day=24.0, reboot_s=600.0)
    found = list(islice(outages(faults, 1, ANN), 3000))
    assert mean(until - since for since, until in found) == pytest.approx(600.0, rel=0.1)
    between = [later[0] - earlier[1] for earlier, later in pairwise(found)]
    assert min(between) > 0 and mean(between) == pytest.approx(DAY_S / 24, rel=0.1)
    assert list(outages(Faults(), 1, ANN)) == []


def test_trainers_die_in_such_a_share_of_attempts_at_any_moment_of_their_work() -> None:
    crashes = TrainerCrashes(Faults(trainer_crashes=0.25), 1, ANN)
    found = [crashes.next(RoundId(n // 2)) for n in range(8000)]
    shares = [one for one in found if one is not None]
    assert len(shares) / len(found) == pytest.approx(0.25, abs=0.02)
    assert mean(shares) == pytest.approx(0.5, abs=0.02) and 0 <= min(shares) < max(shares) < 1
    # Each attempt at a round is drawn anew.
    pairs = set(zip(found[::2], found[1::2], strict=True))
    assert {(a is None, b is None) for a, b in pairs} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip


def test_a_round_is_as_it_is_whichever_were_taken_before() -> None:
    faults = Faults(trainer_crashes=0.5)
    all_rounds, odd_ones = (TrainerCrashes(faults, 1, ANN) for _ in range(2))
    found = [all_rounds.next(RoundId(n)) for n in range(100)]
    assert [odd_ones.next(RoundId(n)) for n in range(1, 100, 2)] == found[1::2]


def test_the_power_fails_in_virtual_time_when_it_does_live(tmp_path: Path) -> None:
    text = "clients = 4\nhours_max = 10.0\n[faults]\nreboots_per_day = 100.0\nreboot_s = 300.0"
    of = fleet(tmp_path, text, rounds="count = 0\ncohort = 1\nquorum = 1\nclients_min = 1\n")
    lab = protocol(of)
    moments = [37.0 * n for n in range(900)]
    off: dict[tuple[str, float], bool] = {}

    def look(moment: float) -> Callable[[], None]:
        def note() -> None:
            off.update({(one.name, moment): one._is_off for one in lab.devices})

        return note

    for moment in moments:
        at(lab, moment, look(moment))
    lab.run()
    expected = {
        (plan.name, moment): any(since <= moment < until for since, until in plan_outages)
        for plan in live_plans(of, tmp_path)
        for plan_outages in [list(islice(plan.outages, 100))]
        for moment in moments
    }
    assert off == expected
    assert {True, False} == set(off.values())


def _dead_rounds(lab: Lab, client: ClientId) -> set[int]:
    return {one.round for one in lab.records if one.declined.get(client) == TRAINER_DIED}


def test_a_trainer_dies_in_virtual_time_in_the_rounds_in_which_it_does_live(
    tmp_path: Path,
) -> None:
    text = "clients = 4\n[faults]\ntrainer_crashes = 0.3"
    of = fleet(tmp_path, text, rounds="count = 40\ncohort = 4\nquorum = 1\nclients_min = 4\n")
    lab = protocol(of)
    lab.run()
    assert lab.is_finished
    for plan in live_plans(of, tmp_path):
        live = {n for n in range(1, 41) if plan.dies_after(job(tmp_path, round=n)) is not None}
        assert live and _dead_rounds(lab, ClientId(plan.name)) == live

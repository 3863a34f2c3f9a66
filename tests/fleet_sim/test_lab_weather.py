"""Every kind of weather at work in the lab: clients come, go, are cut off, lose their power."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.persistence.history import Record
from fedmqtt.topics import RoundId
from fleet_sim.intervals import HOUR_S, within
from fleet_sim.lab import Lab
from tests.fleet_sim.lab_fleets import (
    at,
    fleet,
    in_roster,
    large_task,
    learning,
    names,
    protocol,
)

ENDLESS = "count = 0\ncohort = 2\nquorum = 1\nclients_min = 1\npause_s = 600.0\ndeadline_s = 60.0"
ONE_ROUND = "count = 1\ncohort = 4\nquorum = 1\nclients_min = 4\ndeadline_s = 200.0"

LOG = """client,from_s,until_s
client-a,0,7200
client-b,3600,10800
client-b,14400,18000
client-c,600,20000
"""


def found_at(lab: Lab, *moments: float) -> dict[float, set[str]]:
    """Who is in the roster at each of these moments, once the lab has run."""
    found: dict[float, set[str]] = {}

    def look(moment: float) -> Callable[[], None]:
        def note() -> None:
            found[moment] = in_roster(lab)

        return note

    for moment in moments:
        at(lab, moment, look(moment))
    lab.run()
    return found


# Connectivity


@pytest.mark.parametrize(
    "weather",
    [
        'kind = "always"',
        'kind = "markov"\nsettings = { online_s = 1800.0, offline_s = 900.0, spread = 0.5 }',
        'kind = "diurnal"\nsettings = { begins = "02:00", lasts_h = 4.0, zones_h = 3.0 }',
        'kind = "trace"\nsettings = { file = "log.csv" }',
        'kind = "scripted"\n[[connectivity.settings.events]]\nat = "01:00"\nleave = 0.5\n'
        'returns = "02:30"\n[[connectivity.settings.events]]\nat = "04:00"\nfirst = 0.75\n'
        "leave = 0.25",
    ],
    ids=lambda text: text.split('"')[1],
)
def test_who_is_away_by_plan_is_never_there_and_who_is_not_always_is(
    tmp_path: Path, weather: str
) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    politely = "polite = 1.0\nhalf_open = 0.0"
    text = f"clients = 8\nhours_max = 12\n[connectivity]\n{weather}\n[faults]\n{politely}"
    of = fleet(tmp_path, text, rounds=ENDLESS)
    crew = of.crew(names(8))
    plans = {crew[n].client: list(within(crew[n].online(), 13 * HOUR_S)) for n in range(8)}
    lab = protocol(of)
    moments = [60.0 + 420.0 * n for n in range(100)]
    found = found_at(lab, *moments)
    assert len(found) == 100
    coming_or_going = 0
    for moment, there in found.items():
        for client, plan in plans.items():
            now, before, soon = (
                any(begin <= when < end for begin, end in plan)
                for when in (moment, moment - 1.0, moment + 1.0)
            )
            # What is said takes its time: a second is more than enough on these links.
            if now == before == soon:
                assert (client in there) == now, (moment, client)
            else:
                coming_or_going += 1
    assert coming_or_going < 20
    counts = {len(there) for there in found.values()}
    assert counts == {8} if "always" in weather else len(counts) > 2


def test_those_who_left_at_a_scripted_moment_come_back_and_take_part(tmp_path: Path) -> None:
    text = (
        'clients = 8\nhours_max = 1.0\n[connectivity]\nkind = "scripted"\n'
        '[[connectivity.settings.events]]\nat = "00:10"\nleave = 0.5\nreturns = "00:20"\n'
    )
    rounds = "count = 0\ncohort = 8\nquorum = 4\nclients_min = 4\npause_s = 30.0\n"
    lab = protocol(fleet(tmp_path, text, rounds=rounds))
    counts: dict[str, set[int]] = {"before": set(), "between": set(), "after": set()}

    def note() -> None:
        now = lab.clock.now
        when = "before" if now < 600 else "between" if now < 1200 else "after"
        counts[when].add(len(lab.records[-1].answered))

    for moment in (500.0, 1100.0, 1700.0):
        at(lab, moment, note)
    lab.run()
    assert counts == {"before": {8}, "between": {4}, "after": {8}}


# How departures are noticed


@pytest.mark.parametrize(
    ("faults", "still_there_for_s", "gone_after_s"),
    [
        ("polite = 1.0\nhalf_open = 0.0", 0.0, 0.1),
        # The broker waits for `will_delay_s` before it tells of a broken link.
        ("polite = 0.0\nhalf_open = 0.0", 1.9, 2.1),
        # After 1.5 keepalives of silence, the last word having been up to a keepalive ago.
        ("polite = 0.0\nhalf_open = 1.0", 0.5 * 60 + 1.9, 1.5 * 60 + 2.1),
    ],
    ids=["polite", "cut", "half open"],
)
def test_a_departure_is_noticed_as_late_as_it_would_be(
    tmp_path: Path, faults: str, still_there_for_s: float, gone_after_s: float
) -> None:
    text = (
        'clients = 20\nhours_max = 0.5\n[connectivity]\nkind = "scripted"\n'
        f'[[connectivity.settings.events]]\nat = "00:10"\n[faults]\n{faults}'
    )
    lab = protocol(fleet(tmp_path, text, rounds=ENDLESS))
    middle = (still_there_for_s + gone_after_s) / 2
    moments = [600.0 + s for s in (-0.1, still_there_for_s, middle, gone_after_s)]
    counts = [len(there) for there in found_at(lab, *moments).values()]
    assert counts[:2] == [20, 20] and counts[3] == 0
    if "half_open = 1.0" in faults:
        assert 0 < counts[2] < 20


def test_nothing_is_said_of_who_is_back_before_it_is_missed(tmp_path: Path) -> None:
    text = (
        'clients = 1\nhours_max = 0.5\n[connectivity]\nkind = "scripted"\n'
        '[[connectivity.settings.events]]\nat = "00:10"\nreturns = 601.0\n'
        "[faults]\nhalf_open = 1.0"
    )
    lab = protocol(fleet(tmp_path, text, rounds=ENDLESS))
    moments = [599.0 + 0.25 * n for n in range(400)]
    assert set(map(len, found_at(lab, *moments).values())) == {1}


# Links


def test_loss_only_delays(tmp_path: Path) -> None:
    records: list[Record] = []
    for loss in (0.0, 0.4):
        text = f"clients = 4\nhours_max = 1.0\n[link]\nlatency_s = 0.5\nloss = {loss}"
        lab = protocol(fleet(tmp_path, text, rounds=ONE_ROUND))
        lab.run()
        records += lab.records
    calm, lossy = records
    assert calm.answered == lossy.answered == names(4)
    assert not lossy.rejected and not lossy.dropped
    assert lossy.duration_s > calm.duration_s + 0.9


# Power


def test_who_loses_its_power_loses_its_work(tmp_path: Path) -> None:
    # A training takes an hour, and nobody has its power for so long.
    text = (
        "clients = 4\nhours_max = 3.0\n[device]\nms_per_sample = 36000.0\n"
        "[faults]\nreboots_per_day = 500.0\nreboot_s = 30.0"
    )
    rounds = ONE_ROUND.replace("200.0", "7200.0")
    lab = protocol(fleet(tmp_path, text, rounds=rounds))
    lab.run()
    assert lab.records[0].answered == []
    # With none of the reboots, it is done after an hour.
    calm = protocol(fleet(tmp_path, text.replace("500.0", "0.0"), rounds=rounds))
    calm.run()
    assert calm.records[0].answered == names(4)
    assert 3600 <= calm.records[0].duration_s < 3610


def test_an_answer_that_was_finished_before_the_crash_is_delivered_after_it(
    tmp_path: Path,
) -> None:
    # It trains for 12 s, and is offline from the 10th to the 100th. The lights go out in between.
    text = (
        'clients = 1\nhours_max = 1.0\n[connectivity]\nkind = "scripted"\n'
        "[[connectivity.settings.events]]\nat = 10.0\nreturns = 100.0\n"
        "[device]\nms_per_sample = 100.0\n[faults]\nreboots_per_day = 5000.0\nreboot_s = 1.0"
    )
    rounds = "count = 1\ncohort = 1\nquorum = 1\nclients_min = 1\ndeadline_s = 300.0\n"
    rounds += "away_grace_s = 200.0"
    for seed in range(1, 60):
        of = fleet(tmp_path, f"seed = {seed}\n{text}", rounds=rounds)
        lab = protocol(of)
        device = lab.devices[0]
        held: list[bool] = []
        at(lab, 13.0, lambda held=held, device=device: held.append(bool(device.disk)))  # type: ignore[misc]
        at(lab, 99.0, lambda held=held, device=device: held.append(bool(device.disk)))  # type: ignore[misc]
        lab.run()
        if held == [True, True]:
            break
    else:
        raise AssertionError("no seed leaves 12 seconds of power at the beginning")
    (record,) = lab.records
    assert record.answered == ["client-0"] and 100.0 < record.duration_s < 110.0


def test_a_trainer_that_crashes_declines_and_says_so(tmp_path: Path) -> None:
    text = "clients = 4\nhours_max = 1.0\n[faults]\ntrainer_crashes = 1.0"
    lab = protocol(fleet(tmp_path, text, rounds=ONE_ROUND))
    lab.run()
    assert lab.records[0].declined == dict.fromkeys(names(4), "the trainer did not survive")
    assert lab.records[0].duration_s < 10


def test_a_model_that_does_not_fit_is_declined_before_anything_is_fetched(tmp_path: Path) -> None:
    # Training needs four times the model's 100 kB.
    text = "clients = 4\nhours_max = 1.0\n[device]\nmemory_mb = [0.3]"
    of = fleet(tmp_path, text, rounds=ONE_ROUND, task=large_task(tmp_path, 25_000), every=1)
    with learning(of) as lab:
        lab.run()
        size = lab.server.promises.offers[RoundId(1)].model.size_bytes
        down = lab.broker.bytes_down
    sentence = f"the model has {size} bytes, more than this client's model_bytes_max = 75000"
    # Not even to measure: nobody who was invited has the model.
    assert lab.records[0].declined == dict.fromkeys(names(4), sentence)
    assert lab.records[0].duration_s < 1.0
    assert down < size


# The owners' conditions


def test_phones_take_part_while_they_charge_and_not_before_or_after(tmp_path: Path) -> None:
    text = (
        "clients = 6\nhours_max = 24\n[device]\nconditions = { charging = true }\n"
        'battery.training_h = 4\nbattery.charging = "diurnal"\n'
        "battery.settings = { begins = '02:00', lasts_h = 4.0, habit_h = 0.0, jitter_h = 0.0 }"
    )
    lab = protocol(fleet(tmp_path, text, rounds=ENDLESS))
    willing: dict[float, int] = {}
    for hour in (1.0, 4.0, 8.0):
        at(
            lab,
            hour * HOUR_S,
            lambda hour=hour: willing.update(  # type: ignore[misc]
                {hour: lab.server.roster.willing_count("train")}
            ),
        )
    lab.run()
    assert willing == {1.0: 0, 4.0: 6, 8.0: 0}
    closed = [mark.closed_s / HOUR_S for mark in lab.marks if lab.records[mark.round - 1].answered]
    assert closed and min(closed) > 2.0 and max(closed) < 6.1


def test_who_pays_by_the_megabyte_takes_part_unless_the_owners_mind(tmp_path: Path) -> None:
    answered = []
    for asked in ("false", "true"):
        text = (
            "clients = 40\nhours_max = 1.0\n[device]\nmetered = 0.4\n"
            f"conditions = {{ unmetered = {asked} }}"
        )
        rounds = "count = 2\ncohort = 40\nquorum = 1\nclients_min = 1\npause_s = 9.0"
        of = fleet(tmp_path, text, rounds=rounds)
        crew = of.crew(names(40))
        metered = {crew[n].client for n in range(40) if crew[n].hardware.metered}
        assert 5 < len(metered) < 35
        lab = protocol(of)
        lab.run()
        # By the second round everybody has been heard of, and nobody is invited in vain.
        assert not lab.records[1].declined
        answered.append(set(lab.records[1].answered))
        assert in_roster(lab) == set(names(40))
    assert answered == [set(names(40)), set(names(40)) - metered]


def test_an_empty_battery_hinders_until_it_is_charged(tmp_path: Path) -> None:
    # Training empties it in an hour; who is below half of it declines, and is back when charged.
    text = (
        "clients = 1\nhours_max = 48\n[device]\nms_per_sample = 3000.0\n"
        "conditions = { battery_min = 50 }\n"
        'battery = { training_h = 1.0, idle_h = 1000.0, charge_h = 1.0, charging = "diurnal", '
        "settings = { begins = '12:00', lasts_h = 3.0, habit_h = 0.0, jitter_h = 0.0 } }"
    )
    rounds = "count = 0\ncohort = 1\nquorum = 1\nclients_min = 1\npause_s = 1.0\ndeadline_s = 900.0"
    lab = protocol(fleet(tmp_path, text, rounds=rounds))
    lab.run()
    sentences = [reason for one in lab.records for reason in one.declined.values()]
    assert sentences and all(s.startswith("battery at 49%, below 50%") for s in sentences)
    closed = [
        mark.closed_s / HOUR_S
        for mark, record in zip(lab.marks, lab.records, strict=True)
        if record.answered
    ]
    # At most half an hour's training before it is first charged, and again after that.
    assert 0 < sum(hour < 12 for hour in closed) <= 7
    assert any(12 < hour < 16 for hour in closed)


def test_an_empty_battery_ends_the_device_until_it_is_charged(tmp_path: Path) -> None:
    # No owner asks for anything. It lasts for 10 hours at most, and is charged from 12 to 15.
    text = (
        "clients = 6\nhours_max = 48\n[device]\n"
        'battery = { training_h = 4.0, idle_h = 10.0, charge_h = 1.0, charging = "diurnal", '
        "settings = { begins = '12:00', lasts_h = 3.0, habit_h = 0.0, jitter_h = 0.0 } }"
    )
    lab = protocol(fleet(tmp_path, text, rounds=ENDLESS))
    found = found_at(lab, *(hour * HOUR_S for hour in (1.0, 11.9, 12.1, 24.0, 26.0, 36.1)))
    assert [len(there) for there in found.values()] == [6, 0, 6, 6, 0, 6]
    closed = [mark.closed_s / HOUR_S for mark in lab.marks if lab.records[mark.round - 1].answered]
    assert closed and not any(10.1 < hour < 12 or 25.1 < hour < 36 for hour in closed)
    # Nor has it remembered what it was doing.
    assert all(device.state.job is None for device in lab.devices if device._is_off)


def test_who_is_empty_when_its_power_returns_stays_off(tmp_path: Path) -> None:
    text = (
        "clients = 6\nhours_max = 20\n[device]\n"
        'battery = { training_h = 4.0, idle_h = 5.0, charging = "scripted", '
        "settings = { events = [{ at = 1.0 }] } }\n"
        "[faults]\nreboots_per_day = 200.0\nreboot_s = 300.0"
    )
    lab = protocol(fleet(tmp_path, text, rounds=ENDLESS))
    found = found_at(lab, 600.0, *(HOUR_S * hour for hour in range(6, 20)))
    counts = [len(there) for there in found.values()]
    assert counts[0] > 0 and set(counts[1:]) == {0}


def test_who_takes_part_follows_who_holds_what(tmp_path: Path) -> None:
    # Day people and night people: the first half of the labels is online only at night.
    text = (
        'clients = 40\nhours_max = 24\n[connectivity]\nkind = "diurnal"\n'
        "follows_data = {strength}\n"
        "settings = {{ begins = '00:00', lasts_h = 6.0, zones_h = 24.0, habit_h = 0.0 }}"
    )
    rounds = (
        "count = 0\ncohort = 4\nquorum = 1\nclients_min = 1\npause_s = 300.0\ndeadline_s = 60.0"
    )
    keys = [float(n % 10) for n in range(40)]
    apart: dict[float, float] = {}
    for strength in (0.0, 1.0):
        lab = protocol(fleet(tmp_path, text.format(strength=strength), rounds=rounds), keys)
        lab.run()
        labels = dict(zip(names(40), keys, strict=True))
        means = [
            sum(labels[one] for one in record.answered) / len(record.answered)
            for record in lab.records
            if record.answered
        ]
        quarter = len(means) // 4
        parts = [means[n * quarter : (n + 1) * quarter] for n in range(4)]
        averages = [sum(part) / len(part) for part in parts]
        apart[strength] = max(averages) - min(averages)
    assert apart[1.0] > 4.0 > 2.5 > apart[0.0]


# The end


def test_a_run_ends_with_the_fleets_hours_whatever_would_come_after(tmp_path: Path) -> None:
    text = "clients = 4\nhours_max = 0.5"
    # The first round closes at its deadline, in two hours.
    rounds = "count = 3\ncohort = 4\nquorum = 4\nclients_min = 5\ndeadline_s = 7200.0"
    lab = protocol(fleet(tmp_path, text.replace("4", "6"), rounds=rounds + "\npause_s = 5000.0"))
    lab.run()
    assert not lab.is_finished
    assert lab.clock.now == 0.5 * HOUR_S
    assert len(lab.records) == 1


def test_a_fleet_that_never_comes_back_is_waited_for_until_its_hours_are_over(
    tmp_path: Path,
) -> None:
    text = (
        'clients = 4\nhours_max = 5\n[connectivity]\nkind = "scripted"\n'
        '[[connectivity.settings.events]]\nat = "00:10"'
    )
    lab = protocol(fleet(tmp_path, text, rounds=ENDLESS))
    lab.run()
    assert not lab.is_finished and lab.clock.now == 5 * HOUR_S

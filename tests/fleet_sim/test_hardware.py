"""Devices: speed from a table, and a battery whose every change is known beforehand."""

import math
import os
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.conditions import Reading
from fedmqtt.settings import SettingsError, convert
from fleet_sim import hardware
from fleet_sim.hardware import Battery, Charge, DeviceSettings, Hardware
from fleet_sim.intervals import Interval, merged

HOUR = 3600.0
PLUGGED = st.lists(st.tuples(st.floats(0, 2e5), st.floats(60, 5e4)), max_size=6).map(
    lambda found: merged((begin, begin + length) for begin, length in found)
)
BATTERIES = st.builds(
    lambda training_h, idle_h, charge_h: Battery(
        training_h=training_h, idle_h=idle_h, charge_h=charge_h
    ),
    st.floats(0.1, 20),
    st.floats(1, 100),
    st.floats(0.1, 10),
)


# The battery


def test_a_battery_empties_by_use_and_fills_while_plugged_in() -> None:
    battery = Battery(training_h=1, idle_h=10, charge_h=2)
    charge = Charge(battery, [(5 * HOUR, 9 * HOUR)], level=1.0)
    found = [charge.reading(hour * HOUR) for hour in (0, 4, 5, 5.5, 6, 8, 9, 19, 40)]
    assert [(one.charging, one.battery) for one in found] == [
        (False, 100),
        (False, 60),
        (True, 50),
        (True, 75),
        (True, 100),
        (True, 100),
        (False, 100),
        (False, 0),
        (False, 0),
    ]


def test_training_is_felt_from_when_it_begins_until_it_ends() -> None:
    battery = Battery(training_h=1, idle_h=10, charge_h=2)
    charge = Charge(battery, [], level=1.0)
    assert charge.level(5 * HOUR) == pytest.approx(0.5)
    charge.train(1 * HOUR, 1.5 * HOUR)
    # An hour of use, then half an hour of use and training, then use.
    assert charge.level(1 * HOUR) == pytest.approx(0.9)
    assert charge.level(1.5 * HOUR) == pytest.approx(0.35)
    assert charge.level(2.5 * HOUR) == pytest.approx(0.25)
    # It was broken off after a quarter of an hour.
    charge.train(1.25 * HOUR, 1.25 * HOUR)
    assert charge.level(2.25 * HOUR) == pytest.approx(0.9 - 0.25 - 0.025 - 0.1)
    assert charge.reading(0.5 * HOUR).battery == 95


@given(BATTERIES, PLUGGED, st.floats(0, 1), st.floats(0, 3e5), st.floats(0, 3e4))
def test_every_change_is_told_and_nothing_else_is_one(
    battery: Battery, plugged: list[Interval], level: float, begin: float, length: float
) -> None:
    charge = Charge(battery, plugged, level)
    charge.changes(0.0, 3e5)
    charge.train(begin, begin + length)
    times = charge.changes(0.0, 3e5)
    assert all(before < after for before, after in pairwise(times))
    readings = [charge.reading(0.0), *(charge.reading(moment) for moment in times)]
    assert all(before != after for before, after in pairwise(readings))
    edges = [0.0, *times, 3e5]
    for number, (left, right) in enumerate(pairwise(edges)):
        # Up to the last moment before the next change, it reads as it did.
        for moment in (left, (left + right) / 2, math.nextafter(right, 0.0)):
            if left <= moment < right:
                assert charge.reading(moment) == readings[number]


@given(BATTERIES, PLUGGED, st.floats(0, 1), st.lists(st.floats(0, 3e5), max_size=20))
def test_a_reading_is_the_level_and_the_plug_and_asking_changes_neither(
    battery: Battery, plugged: list[Interval], level: float, moments: list[float]
) -> None:
    asked, fresh = (Charge(battery, plugged, level) for _ in range(2))
    asked.changes(0.0, 4e5)
    for moment in moments:
        reading = fresh.reading(moment)
        assert reading == asked.reading(moment)
        assert fresh.level(moment) == asked.level(moment)
        assert reading.charging == any(begin <= moment < end for begin, end in plugged)
        assert reading.battery is not None
        assert abs(reading.battery - fresh.level(moment) * 100) <= 0.5 + 1e-6


@given(BATTERIES, PLUGGED, st.floats(0, 1))
def test_the_level_is_that_of_many_little_steps(
    battery: Battery, plugged: list[Interval], level: float
) -> None:
    charge = Charge(battery, plugged, level)
    charge.train(1e4, 3e4)
    step = 60.0
    for n in range(1500):
        now = n * step
        # A step is off by what changes within it, and charge_h may be as little as six minutes.
        is_plugged = any(begin <= now < end for begin, end in plugged)
        use = 1 / battery.idle_h + (1e4 <= now < 3e4) / battery.training_h
        change = 1 / battery.charge_h if is_plugged else -use
        level = min(max(level + change * step / HOUR, 0.0), 1.0)
    edges = 2 * len(plugged) + 2
    most = step / HOUR * (1 / battery.charge_h + 1 / battery.idle_h + 1 / battery.training_h)
    assert abs(charge.level(1500 * step) - level) <= edges * most + 1e-6


def test_a_device_without_a_battery_says_nothing_and_never_changes() -> None:
    device = Hardware(ms_per_sample=1.0, start_s=0.0)
    device.train(0.0, 10.0)
    assert device.reading(5.0) == Reading() and device.changes(0.0, 1e9) == []
    assert not device.is_empty(5.0)


def test_a_battery_is_empty_at_0_percent_unless_it_is_charged() -> None:
    charge = Charge(Battery(training_h=1, idle_h=10), [(12 * HOUR, 13 * HOUR)], level=1.0)
    device = Hardware(ms_per_sample=1.0, start_s=0.0, charge=charge)
    found = [device.is_empty(hour * HOUR) for hour in (0, 9.9, 9.96, 11.9, 12, 13.1, 40)]
    assert found == [False, False, True, True, False, False, True]


def test_a_metered_device_says_so_whatever_its_battery_says() -> None:
    charge = Charge(Battery(training_h=1, idle_h=10), [], level=0.5)
    assert Hardware(1.0, 0.0, metered=True).reading(0.0) == Reading(metered=True)
    reading = Hardware(1.0, 0.0, metered=True, charge=charge).reading(0.0)
    assert reading == Reading(charging=False, battery=50, metered=True)


# Speed and the rest


def prepared(folder: Path, **values: Any) -> hardware.Devices:
    return hardware.prepare(convert(values, DeviceSettings, "device"), folder)


def test_a_training_takes_its_samples_and_the_trainer_s_start() -> None:
    device = Hardware(ms_per_sample=20.0, start_s=5.0, memory_mb=400.0)
    assert device.train_s(100, 3) == 11.0
    assert device.evaluate_s(300) == 7.0
    assert device.model_bytes_max == 100e6
    assert Hardware(1.0, 0.0).model_bytes_max == math.inf


def test_devices_differ_by_the_spread_and_in_what_they_have(tmp_path: Path) -> None:
    found = prepared(tmp_path, ms_per_sample=10, spread=0.5, memory_mb=[256, 1024], metered=0.25)
    drawn = [found.draw([], Random(n)) for n in range(2000)]
    assert median(one.ms_per_sample for one in drawn) == pytest.approx(10, rel=0.05)
    assert sum(one.memory_mb == 256 for one in drawn) == pytest.approx(1000, rel=0.1)
    assert sum(one.metered for one in drawn) == pytest.approx(500, rel=0.1)
    assert all(one.charge is None for one in drawn)
    assert prepared(tmp_path, battery={"training_h": 3}).draw([], Random(1)).charge is not None


def test_a_table_of_phones_is_drawn_from_by_share(tmp_path: Path) -> None:
    (tmp_path / "phones.csv").write_text("phone,share,ms_per_sample\nold,30,40\nnew,10,10\n")
    found = prepared(tmp_path, table="phones.csv", ms_per_sample=2)
    drawn = [found.draw([], Random(n)).ms_per_sample for n in range(2000)]
    assert set(drawn) == {20.0, 80.0}
    assert drawn.count(80.0) == pytest.approx(1500, rel=0.05)


BATCHES = """phone,share_of_trace_phones,task,ms_per_batch_mean,ms_per_batch_std
nexus,0.75,cnn,200,9
note,0.25,cnn,100,9
nexus,1,lstm,5000,9
"""


def test_a_table_of_batches_is_of_one_task(tmp_path: Path) -> None:
    (tmp_path / "phones.csv").write_text(BATCHES)
    found = prepared(tmp_path, table="phones.csv", task="cnn", batch_size=20)
    assert found.speeds == [(0.75, 10.0), (0.25, 5.0)]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"table": "phones.csv", "task": "cn"},
            "task: {}/phones.csv has no task 'cn'; choose one of: cnn, lstm",
        ),
        ({"task": "cnn"}, "task: 'cnn' of which table? Give `table` too"),
        (
            {"table": "plain.csv"},
            "table: {}/plain.csv: no column ms_per_sample; its first line names phone, share",
        ),
        (
            {"conditions": {"load_max": 0.5}},
            "conditions.load_max: load and temperature are not simulated; leave it at 0, and"
            " choose from: charging, battery_min, unmetered",
        ),
        (
            {"conditions": {"unmetered": True, "metered_links": ["wlan0"]}},
            "conditions.metered_links: links have no names here; device.metered says how many are",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, values: dict[str, Any], sentence: str) -> None:
    (tmp_path / "phones.csv").write_text(BATCHES)
    (tmp_path / "plain.csv").write_text("phone,share\nold,1\n")
    with pytest.raises(SettingsError) as refused:
        prepared(tmp_path, **values)
    assert str(refused.value) == sentence.format(tmp_path)


def test_the_measured_phones_are_a_table() -> None:
    folder = os.environ.get("FEDMQTT_DATA")
    if folder is None:
        pytest.skip("FEDMQTT_DATA names no folder with traces/train_time_ms_per_batch.csv")
    table = "traces/train_time_ms_per_batch.csv"
    found = prepared(Path(folder), table=table, task="femnist_cnn", batch_size=10)
    assert found.speeds == [(0.53153, 164.2), (0.46398, 58.8), (0.00449, 17.9)]

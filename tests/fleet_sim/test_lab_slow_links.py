"""Clients of the lab measure their links as real ones do, and answer by the codec that fits."""

from pathlib import Path

import pytest

from coordinator.persistence.history import Record
from fleet_sim.lab_uplink import Uplink
from tests.fleet_sim.lab_fleets import fleet, large_task, learning

FLOATS = 300_000
"""1.2 MB in full precision, which is ten pieces, and 0.3 MB in int8."""

CHOICE = "slow_links = { codec = 'int8', below_kbps = 400.0 }"


def played(folder: Path, link: str, federation: str = CHOICE, clients: int = 3) -> list[Record]:
    all_of_them = f"cohort = {clients}\nquorum = {clients}\nclients_min = {clients}\n"
    of = fleet(
        folder,
        f"clients = {clients}\n[link]\n{link}",
        rounds=f"count = 3\n{all_of_them}deadline_s = 50000.0",
        task=large_task(folder, FLOATS),
        federation=federation,
    )
    with learning(of) as lab:
        lab.run()
        assert lab.is_finished
        return lab.records[:3]


def answered_by(record: Record) -> dict[str, int]:
    return {codec: count.updates for codec, count in record.codecs.items()}


def test_who_is_slow_knows_it_after_one_answer_and_the_next_takes_a_quarter_of_the_time(
    tmp_path: Path,
) -> None:
    first, second, third = played(tmp_path, "up = { kbps = 200.0 }\nlatency_s = 0.2")
    assert answered_by(first) == {"full": 3}
    assert answered_by(second) == answered_by(third) == {"int8": 3}
    assert first.codecs["full"].bytes == 3 * 4 * FLOATS
    # At 25 kB/s.
    assert first.duration_s == pytest.approx(48.0, rel=0.1)
    assert second.duration_s == pytest.approx(12.0, rel=0.3)


def test_who_is_not_slow_or_only_far_away_answers_as_all_do(tmp_path: Path) -> None:
    link = "up = { kbps = 2000.0 }\nlatency_s = 3.0"
    assert [answered_by(one) for one in played(tmp_path, link)] == [{"full": 3}] * 3
    # Without any limit.
    assert [answered_by(one) for one in played(tmp_path, "latency_s = 0.5")] == [{"full": 3}] * 3


def test_each_chooses_for_itself(tmp_path: Path) -> None:
    link = "up = { kbps = 400.0, spread = 1.0 }"
    first, second, third = played(tmp_path, link, clients=8)
    assert answered_by(first) == {"full": 8}
    found = answered_by(second)
    assert found == answered_by(third)
    assert found.keys() == {"full", "int8"} and sum(found.values()) == 8


def test_without_a_choice_nobody_makes_one(tmp_path: Path) -> None:
    records = played(tmp_path, "up = { kbps = 200.0 }", federation="")
    assert [answered_by(one) for one in records] == [{"full": 3}] * 3


def test_what_was_under_way_when_the_link_broke_tells_nothing() -> None:
    uplink = Uplink()
    uplink.says(100, 0.0, 0.5)
    uplink.says(1_000, 1.0, 9.0)
    uplink.breaks(5.0)
    assert uplink.quality(10.0).kbps == () and uplink.quality(10.0).burst is None
    assert uplink.quality(10.0).round_trips_s == (0.5,)

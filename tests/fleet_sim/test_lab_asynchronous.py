"""Asynchronous rounds in the lab: nobody waits for the slow, and they are heard all the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from coordinator import aggregation
from fedmqtt import parts
from fedmqtt.messages import Evaluation, Update
from fedmqtt.topics import ClientId
from fleet_sim import fleet as fleets
from fleet_sim.lab import Lab
from tests.fleet_sim.lab_fleets import (
    STORMY,
    fleet,
    large_task,
    learning,
    protocol,
)

MODE = "mode = 'asynchronous'\nclients_min = 1\nquorum = 1\n"
LATE = "late = { rounds_max = 100 }\n"


def answers(lab: Lab) -> Counter[str]:
    return Counter(client for one in lab.records for client in one.answered) + Counter(
        client for one in lab.records for client, _ in one.late_counted
    )


def test_fast_devices_do_not_wait_for_one_that_takes_ten_times_as_long(tmp_path: Path) -> None:
    table = tmp_path / "two_speeds.csv"
    table.write_text("phone,share,ms_per_sample\nfast,0.8,10\nslow,0.2,100\n")
    text = f"clients = 5\n[device]\nstart_s = 0.0\ntable = '{table}'\n"
    # A hundred samples: a second, or ten.
    rounds = "count = 40\ncohort = 2\nconcurrency = 5\ndeadline_s = 1000.0\n" + MODE
    lab = protocol(fleet(tmp_path, text, rounds=rounds, federation=LATE))
    lab.run()
    assert lab.is_finished and all(one.outcome == "averaged" for one in lab.records)
    crew = [lab._crew[n] for n in range(5)]
    ms = {one.client: one.hardware.ms_per_sample for one in crew}
    slow = {client for client, takes in ms.items() if takes == 100}
    assert 0 < len(slow) < 5, "the seed draws some of each"
    counts = answers(lab)
    fast = [counts[client] for client in ms if client not in slow]
    # The slow do not set the pace: a synchronous run would take 40 times their ten seconds.
    assert lab.clock.now < 60
    assert all(counts[client] == lab.clock.now // 10 for client in slow)
    assert min(fast) >= 0.8 * lab.clock.now, "at work nearly all the time"
    # What the slow did was late each time.
    in_time = {client for one in lab.records for client in one.answered}
    assert not in_time & slow


@pytest.mark.parametrize(
    "strategy",
    # One that visits one client at a time is refused with asynchronous rounds.
    [
        name
        for name in parts.names(aggregation)
        if not hasattr(parts.load(aggregation, name), "ONE_AT_A_TIME")
    ],
)
def test_every_strategy_learns_without_waiting(tmp_path: Path, strategy: str) -> None:
    def ran() -> Lab:
        of = fleet(
            tmp_path,
            "clients = 12\n[device]\nms_per_sample = 10.0\nspread = 1.0\n",
            rounds="count = 4\ncohort = 7\nconcurrency = 9\n" + MODE,
            federation=f"aggregation = '{strategy}'\n" + LATE,
        )
        with learning(of) as lab:
            lab.run()
        return lab

    lab, again = ran(), ran()
    assert [record.outcome for record in lab.records] == ["averaged"] * 4
    assert any(record.late_counted for record in lab.records)
    assert lab.tensors is not None and again.tensors is not None
    np.testing.assert_array_equal(lab.tensors.flat, again.tensors.flat)
    assert np.isfinite(lab.tensors.flat).all() and lab.tensors.newest != lab.tensors.initial


def test_who_is_still_fetching_an_older_model_gets_it(tmp_path: Path) -> None:
    # 100 kB take 10 s over a link like this; a model is made every few seconds.
    text = (
        "clients = 6\n[link]\ndown = { kbps = 80.0, spread = 0.5 }\n"
        "[device]\nms_per_sample = 10.0\nstart_s = 0.0\n"
    )
    rounds = "count = 30\ncohort = 1\nconcurrency = 6\ndeadline_s = 1000.0\n" + MODE
    of = fleet(tmp_path, text, rounds=rounds, federation=LATE, task=large_task(tmp_path, 25_000))
    with learning(of) as lab:
        lab.run()
    assert lab.is_finished
    took_s = lab.clock.now / 30
    assert took_s < 8, "a new model each time before the next is fetched"
    # Nobody's fetch was in vain: whoever was invited has answered, or was at it at the end.
    invited = Counter(client for one in lab.records for client in one.invited)
    assert len(invited) == 6
    assert all(invited[client] - answers(lab)[client] <= 1 for client in invited)


def test_in_all_weathers_it_learns_and_is_the_same_again(tmp_path: Path) -> None:
    def ran() -> Lab:
        of = fleet(
            tmp_path,
            STORMY,
            rounds="count = 8\ncohort = 2\nconcurrency = 4\ndeadline_s = 60.0\n" + MODE,
            federation="aggregation = 'fedasync'\n" + LATE,
            every=2,
        )
        with learning(of) as lab:
            lab.run()
        return lab

    lab, again = ran(), ran()
    assert lab.is_finished and lab.trace == again.trace
    assert any(record.late_counted for record in lab.records)


def test_layers_of_ones_own_are_no_part_of_the_models_that_stale_answers_are_mixed_with(
    tmp_path: Path,
) -> None:
    of = fleet(
        tmp_path,
        "clients = 6\n[device]\nms_per_sample = 10.0\nspread = 1.0\n",
        rounds="count = 4\ncohort = 3\nconcurrency = 5\n" + MODE,
        federation="aggregation = 'fedasync'\n" + LATE,
    )
    of = fleets.read(of.folder / "fleet.toml", ['federation.training.personal=["bias"]'])
    with learning(of) as lab:
        lab.run()
        assert lab.tensors is not None
        named = lab.tensors.layout.unflatten(lab.tensors.flat)
    assert [record.outcome for record in lab.records] == ["averaged"] * 4
    assert any(record.late_counted for record in lab.records)
    assert not named["bias"].any() and named["weight"].any()


def test_a_version_that_closes_stops_nobody_where_partial_work_counts(tmp_path: Path) -> None:
    # About 20 s on each device; a version ends after some seconds.
    of = fleet(
        tmp_path,
        "clients = 6\n[device]\nms_per_sample = 200.0\nspread = 0.3\nstart_s = 1.0\n",
        rounds="count = 6\ncohort = 2\nconcurrency = 5\ndeadline_s = 8.0\n" + MODE,
        federation="aggregation = 'fednova'\n" + LATE,
    )
    steps: list[int | None] = []
    with learning(of) as lab:
        tensors = lab.tensors
        assert tensors is not None
        check = tensors.check

        def seen(client: ClientId, answer: Update | Evaluation) -> str:
            assert isinstance(answer, Update)
            steps.append(answer.steps)
            return check(client, answer)

        tensors.check = seen  # type: ignore[method-assign]
        lab.run()
    assert set(steps) == {6}, "all 60 samples of the linear task in batches of ten"

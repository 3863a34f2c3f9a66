"""The gate: what it lets through, writes down and logs, by clocks that the test holds."""

import logging
from pathlib import Path
from typing import Any

import pytest

from coordinator import quarantine, quarantine_file
from coordinator.config import Limits
from coordinator.gate import Gate
from coordinator.quarantine import Add, Lift, Standing, Term
from fedmqtt.topics import ClientId

ANN, BOB = ClientId("ann"), ClientId("bob")


class Stage:
    """A gate, its clocks, and what it told."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.now, self.wall = 100.0, 1e9
        self.changed: list[ClientId] = []
        self.flooding: list[ClientId] = []
        self.folder, self.limits = folder, Limits(**limits)
        self.gate = self.again()

    def again(self, *, believes_broker: bool = True) -> Gate:
        """As after a kill: whatever is on the disk, and nothing else."""
        return Gate(
            self.limits,
            self.folder,
            lambda: self.now,
            self.changed.append,
            self.flooding.append,
            lambda: self.wall,
            believes_broker=believes_broker,
        )


def test_what_is_within_the_limits_goes_through_and_what_exceeds_them_is_a_strike(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, messages_per_s=1.0, bytes_per_s=1024, strikes=2)
    assert [stage.gate.admits(ANN, 1) for _ in range(11)] == [True] * 10 + [False]
    assert list(stage.gate.struck) == ["ann"]
    assert not any(stage.gate.admits(ANN, 1) for _ in range(1000)), "one strike, not a thousand"
    assert not stage.gate.is_out(ANN)
    stage.now += 0.1
    assert not stage.gate.admits(ANN, 1)
    assert stage.gate.is_out(ANN) and stage.changed == [ANN]
    assert "a flood: more than 1 messages or 1,024 bytes a second" in stage.gate.why_out(ANN)
    assert stage.flooding == []
    stage.gate.admits(ANN, 1)
    assert stage.flooding == [ANN]
    assert stage.gate.admits(BOB, 1)


def test_bytes_are_limited_too_and_a_whole_answer_always_fits(tmp_path: Path) -> None:
    stage = Stage(tmp_path, bytes_per_s=1024)
    assert not stage.gate.admits(ANN, 20_000)
    stage.gate.fit(answer_bytes=10_000_000, chunk_bytes=1000)
    assert all(stage.gate.admits(BOB, 1000) for _ in range(10_000))


def test_answers_that_count_are_free(tmp_path: Path) -> None:
    stage = Stage(tmp_path, messages_per_s=1.0)
    for _ in range(1000):
        assert stage.gate.admits(ANN, 1000)
        stage.gate.counted(ANN, 1000)


def test_a_quarantine_is_on_the_disk_before_it_holds(tmp_path: Path) -> None:
    stage = Stage(tmp_path, strikes=2)
    stage.gate.strike(ANN, "noise")
    assert not stage.again().struck, "strikes may wait"
    stage.gate.poll()
    assert list(stage.again().struck) == ["ann"]
    stage.gate.strike(ANN, "noise")
    assert stage.again().is_out(ANN)


def test_it_ends_by_time_also_where_nobody_ran_meanwhile(tmp_path: Path) -> None:
    stage = Stage(tmp_path, strikes=1, quarantine_s=60.0)
    stage.gate.strike(ANN, "noise")
    stage.wall += 59
    stage.gate.poll()
    assert stage.gate.is_out(ANN) and stage.again().is_out(ANN)
    stage.wall += 1
    assert not stage.again().is_out(ANN)
    stage.gate.poll()
    assert not stage.gate.is_out(ANN) and stage.changed == [ANN, ANN]


def test_orders_are_carried_out_in_turn_and_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    quarantine_file.give(tmp_path, Add(client=ANN, term=Term(began=1e9, until=None, why="x")))
    quarantine_file.give(tmp_path, Add(client=BOB, term=Term(began=1e9, until=None, why="y")))
    quarantine_file.give(tmp_path, Lift(client=ANN))
    stage.gate.poll()
    assert list(stage.gate.terms) == ["bob"]
    assert quarantine_file.orders(tmp_path) == []
    assert list(stage.again().terms) == ["bob"]


def test_a_reason_is_logged_once_and_a_client_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    stage = Stage(tmp_path, strikes=0)
    for _ in range(1000):
        stage.gate.strike(ANN, "noise")
    assert caplog.messages == ["ann: noise"]
    for i in range(1000):
        stage.gate.say(ANN, f"claims {i} samples")
    assert len(caplog.messages) == 10
    stage.gate.say(BOB, "noise")
    assert caplog.messages[-1] == "bob: noise"


def test_where_the_broker_is_not_believed_a_flood_mutes_and_is_no_strike(tmp_path: Path) -> None:
    stage = Stage(tmp_path, messages_per_s=1.0, strikes=2, quarantine_s=60.0)
    gate = stage.gate = stage.again(believes_broker=False)
    for _ in range(2):
        stage.now += 0.1
        while gate.admits(ANN, 1):
            pass
    assert gate.is_muted(ANN) and gate.is_out(ANN) and gate.out == [ANN]
    assert gate.why_out(ANN).startswith("not listened to until ")
    assert gate.struck == {ANN: gate.why_out(ANN)}
    assert gate.terms == {} and stage.changed == [ANN]
    gate.admits(ANN, 1)
    assert stage.flooding == [ANN]
    gate.poll()
    assert quarantine_file.load(tmp_path) == {}
    stage.wall += 60
    gate.poll()
    assert not gate.is_out(ANN) and stage.changed == [ANN, ANN]


def test_without_quarantine_nobody_says_how_often(tmp_path: Path) -> None:
    stage = Stage(tmp_path, strikes=0)
    for _ in range(50):
        stage.gate.strike(ANN, "noise")
    assert stage.gate.struck == {ANN: "refused lately, the last: noise"}


def test_whose_place_another_needed_is_let_in_and_it_is_told(tmp_path: Path) -> None:
    by_hand = Standing(term=Term(began=1e9, until=None, why="by hand"), by_hand=True)
    standings = {ClientId(f"c{i}"): by_hand for i in range(quarantine.CLIENTS_MAX - 1)}
    term = Term(began=1e9, until=2e9, why="noise")
    quarantine_file.save(tmp_path, {ANN: Standing(terms=1, term=term)} | standings)
    stage = Stage(tmp_path)
    assert stage.gate.is_out(ANN)
    quarantine_file.give(tmp_path, Add(client=BOB, term=Term(began=1e9, until=None, why="x")))
    stage.gate.poll()
    assert stage.gate.is_out(BOB) and not stage.gate.is_out(ANN)
    assert stage.changed == [BOB, ANN]

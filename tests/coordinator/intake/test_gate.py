"""The gate: what it lets through, writes down and logs, by clocks that the test holds."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.config import Limits
from coordinator.intake import quarantine, quarantine_file
from coordinator.intake.gate import Gate
from coordinator.intake.quarantine import Add, Lift, Standing, Term
from fedmqtt.topics import ClientId

ANN, BOB = ClientId("ann"), ClientId("bob")
NOBODY = 65_000
"""A user that has no files and no rights."""


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user finds; those of a test are its own user's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


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


def test_what_is_no_order_is_told_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)
    quarantine_file.give(tmp_path, Add(client=ANN, term=Term(began=1e9, until=None, why="x")))
    orders = tmp_path / "quarantine" / "orders"
    (orders / "1.json").mkdir()
    (orders / "2.json").write_text("{}")
    with caplog.at_level(logging.WARNING, logger="coordinator"):
        for _ in range(3):
            stage.gate.poll()
        assert list(stage.gate.terms) == ["ann"]
        assert [path.name for path in orders.iterdir()] == ["1.json"]
        assert list(stage.again().terms) == ["ann"]
    told = [line for line in caplog.messages if "is no order" in line]
    # The folder that stays is told of twice in all: what it is, and that it stays.
    assert len([line for line in told if "1.json" in line]) == 2, told
    assert len([line for line in told if "2.json" in line]) == 1, told


def test_an_order_is_carried_out_by_whom_a_kill_interrupted(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    quarantine_file.give(tmp_path, Add(client=ANN, term=Term(began=1e9, until=None, why="x")))
    ((path, _),) = quarantine_file.orders(tmp_path)
    quarantine_file.claim(path)
    assert list(quarantine_file.read(tmp_path, 1e9).terms) == ["ann"]
    stage.gate.poll()
    assert list(stage.gate.terms) == ["ann"] and quarantine_file.orders(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give what it makes to another user")
def test_an_order_by_root_belongs_to_whom_the_run_belongs_to(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    quarantine_file.give(tmp_path, Lift(client=ANN))
    ((path, order),) = quarantine_file.orders(tmp_path)
    assert order == Lift(client=ANN)
    for made in (path, path.parent, path.parent.parent):
        assert made.stat().st_uid == NOBODY, made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_an_order_by_a_stranger_is_refused_in_a_sentence(open_path: Path) -> None:
    """The coordinator could not remove what it makes there."""
    os.chown(open_path, NOBODY, NOBODY)
    os.seteuid(NOBODY + 1)
    try:
        with pytest.raises(PermissionError, match=r"belongs to another user .* as that user"):
            quarantine_file.give(open_path, Lift(client=ANN))
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_an_order_that_cannot_be_removed_is_not_obeyed(
    open_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(open_path)
    quarantine_file.give(open_path, Add(client=ANN, term=Term(began=1e9, until=None, why="x")))
    os.seteuid(NOBODY)
    try:
        with caplog.at_level(logging.WARNING, logger="coordinator"):
            stage.gate.poll()
            stage.gate.poll()
    finally:
        os.seteuid(0)
    assert not stage.gate.is_out(ANN)
    (told,) = (line for line in caplog.messages if "cannot be removed, and is no order" in line)
    assert "Permission denied" in told


def test_orders_that_cannot_be_looked_through_stop_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "orders").write_text("no folder")
    with caplog.at_level(logging.WARNING, logger="coordinator"):
        stage.gate.poll()
        stage.gate.poll()
    (told,) = caplog.messages
    assert "orders cannot be read, and orders in it are none: Not a directory" in told

"""The simulated coordinator's disk keeps what the real ledger keeps."""

import random
from collections.abc import Collection
from functools import partial
from pathlib import Path

import pytest

from coordinator.known import Knowledge, Report
from coordinator.orders import Control
from coordinator.persistence import recovery
from coordinator.persistence.history import Record
from coordinator.persistence.ledger import (
    Beginning,
    Carried,
    Checkpoint,
    Kept,
    Ledger,
    Opening,
    Refusals,
)
from coordinator.rounds import Close, Collecting, Named, Rules, Waiting
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fleet_sim.clock import Clock
from fleet_sim.disk import Disk, DiskQueue
from fleet_sim.plan import Plan
from fleet_sim.weather import Weather
from fleet_sim.world import World


class DiskAndLedger(Disk):
    """Writes everything into a ledger too, and compares what comes out of both."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.compared = 0
        # What it costs to force things to a disk is measured elsewhere.
        self.ledger = Ledger(folder, post=lambda action: None, durable=False)

    def begin(self, carried: Carried, model: Digest) -> None:
        super().begin(carried, model)
        beginning = Beginning(run=RunId("storm"), task="simulated", tensors=[])
        self.ledger.begin(beginning, carried, _checkpoint(model))

    def take_epoch(self, epoch: int) -> None:
        super().take_epoch(epoch)
        self.ledger.take_epoch(epoch)

    def open_round(self, number: RoundId, opening: Opening) -> None:
        super().open_round(number, opening)
        self.ledger.open_round(number, opening)

    def shut(self, number: RoundId, train: Collection[ClientId]) -> None:
        super().shut(number, train)
        self.ledger.shut(number, train)

    def keep(self, named: Named, closes_in_s: Seconds | None, report: Report | None = None) -> None:
        super().keep(named, closes_in_s, report)
        self.ledger.keep(Kept(named, message=b"answer", report=report), closes_in_s, None)

    def refuse(self, number: RoundId, refusals: Refusals) -> None:
        super().refuse(number, refusals)
        self.ledger.refuse(number, refusals)

    def close_round(self, close: Close, carried: Carried, model: Digest) -> None:
        super().close_round(close, carried, model)
        newest = _checkpoint(model)
        self.ledger.close_round(_record(close), close.held, carried, newest, close.learned)

    def order(self, control: Control) -> None:
        super().order(control)
        self.ledger.order(control)

    def finish(self) -> None:
        super().finish()
        self.ledger.finish()

    def recover(self, at: Seconds, rules: Rules) -> Waiting | Collecting:
        recovered = super().recover(at, rules)
        ledger = self.ledger
        settled = [
            recovery.settle(number, opening, answered)
            for number, opening, answered in ledger.closed_rounds()
        ]
        kept = list(ledger.kept())
        unused = [one.named for one in kept]
        reports = {(one.named.client, one.named.round): one.report for one in kept if one.report}
        assert self.knowledge() == Knowledge(ledger.known(), reports)
        open_round, control = ledger.open_round_now(), ledger.control()
        assert recovered == recovery.state(
            at, rules, ledger.carried(), settled, open_round, unused, reports, control=control
        )
        assert (self.epoch, self.is_finished) == (ledger.epoch(), ledger.is_finished())
        assert self.model == ledger.checkpoint().digest
        self.compared += 1
        return recovered


def _checkpoint(model: Digest) -> Checkpoint:
    return Checkpoint(file="model.safetensors", digest=model, trained_rounds=0)


def _record(close: Close) -> Record:
    return Record(
        round=close.round,
        closed="",
        outcome=close.outcome,
        reason=close.reason,
        base="",
        invited=sorted(close.invited),
        answered=sorted(close.answered),
        dropped=sorted(close.dropped),
        declined=dict(close.declined),
        rejected=dict(close.rejected),
        evaluated=sorted(close.evaluated),
        late_updates=0,
        duration_s=close.duration_s,
        samples=0,
        train_metrics={},
        figures=None,
        bytes_received=0,
        bytes_published=0,
    )


# In all but the first: killed while an answer waits that came when its round had just closed.
@pytest.mark.parametrize("seed", [35, 68, 167, 170])
def test_after_each_of_many_deaths_both_know_the_same(seed: int, tmp_path: Path) -> None:
    plan = Plan.from_seed(seed)
    disk = DiskAndLedger(tmp_path)
    World(plan, Weather.from_seed(seed), disk=disk).run()
    disk.recover(0.0, plan.round_rules(disk.epoch))
    disk.ledger.close()
    assert disk.compared > 1


class Writings:
    """What was written, and who was told (with a `!`), in order."""

    def __init__(self, seed: object = "disk", commit_s: Seconds = 1.0) -> None:
        self.done: list[str] = []
        self.clock = Clock()
        self.queue = DiskQueue(self.clock, random.Random(str(seed)), commit_s)

    def soon(self, name: str) -> None:
        self.queue.soon(partial(self.done.append, name), partial(self.done.append, name + "!"))

    def now(self, name: str) -> None:
        self.queue.now(partial(self.done.append, name))

    def run(self) -> list[str]:
        self.clock.run(until=lambda: False)
        return self.done


def test_what_comes_during_a_commit_waits_for_the_next() -> None:
    writings = Writings()
    for name in ("first", "second", "third"):
        writings.soon(name)
    # The first starts a commit by itself; what came meanwhile goes together.
    assert writings.run() == ["first", "first!", "second", "third", "second!", "third!"]


def test_what_is_written_at_once_comes_after_all_that_waits() -> None:
    writings = Writings()
    writings.soon("under way")
    writings.soon("waits")
    writings.now("now")
    assert writings.done == ["under way", "waits", "now"]
    assert writings.run()[3:] == ["under way!", "waits!"], "each is told once"


def test_a_loss_of_power_leaves_a_group_whole_or_not_at_all_and_tells_nobody() -> None:
    outcomes = set()
    for seed in range(20):
        writings = Writings(seed)
        for name in ("alone", "a", "b"):
            writings.soon(name)
        writings.clock.run(until=lambda done=writings.done: "alone!" in done)  # type: ignore[misc]
        writings.soon("waits")
        writings.queue.lose_power()
        outcomes.add(tuple(writings.run()))
    assert outcomes == {("alone", "alone!"), ("alone", "alone!", "a", "b")}

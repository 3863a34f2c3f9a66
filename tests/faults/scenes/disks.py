"""Disks that are full, and have room again later."""

import re
import resource

import psutil

from fedmqtt.topics import ClientId
from tests.faults.federation import Lives
from tests.faults.plan import Plan
from tests.faults.scenario import scenario
from tests.faults.situations import require_missing, until_dan_is_at_work
from tests.faults.stage import Row, Stage, require


@scenario("a client's disk is full")
def client_disk_full(stage: Stage) -> Row:
    with stage.federation(Plan(large=True, quorum=3, rounds=5)) as fed:
        until_dan_is_at_work(fed)
        fed.hold("ann", number=3)
        dan = fed.clients["dan"]
        _limit_files(dan, 100_000)
        fed.let_go("dan")
        fed.wait(lambda: "the answer cannot be kept" in dan.log, "dan's trouble with its answer")
        fed.wait(lambda: "the model cannot be kept" in dan.log, "dan's trouble with the model")
        _limit_files(dan, resource.RLIM_INFINITY)
        fed.let_go("ann")
        row = stage.row(fed, "for two rounds; it declines, says why, returns", same=False)
        require_missing(fed, {2: {"dan"}, 3: {"dan"}})
        for record in fed.records[1:3]:
            why = record.declined[ClientId("dan")]
            require("cannot be kept" in why, f"round {record.round}: dan declined with {why!r}")
        return row


@scenario("the coordinator's disk is full")
def coordinator_disk_full(stage: Stage) -> Row:
    with stage.federation(Plan(large=True)) as fed:
        until_dan_is_at_work(fed)
        _limit_files(fed.coordinator, 100_000)
        fed.let_go("dan")
        code = fed.wait_for_end()
        require(code == 1, f"the coordinator ended with exit code {code}")
        log = fed.coordinator.now.log
        told = re.search(r"fedmqtt coordinator: .*File too large", log) is not None
        require(told, f"it said nothing of its disk: {log[-500:]}")
        fed.start_program(fed.coordinator)
        return stage.row(fed, "it ends and says so; started again with room, it goes on")


def _limit_files(lives: Lives, bytes_max: int) -> None:
    """No file of this program and its children may grow beyond that, as if the disk ended there.

    The system says EFBIG instead of ENOSPC: a disk of our own to fill would take root.
    """
    program = psutil.Process(lives.now.process.pid)
    for process in (program, *program.children(recursive=True)):
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (bytes_max, hard))

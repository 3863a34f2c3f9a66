"""Two of what there should be one of: clients with one id, coordinators of one federation."""

import signal
from dataclasses import replace
from time import monotonic

from tests.faults.plan import COORDINATOR, Plan
from tests.faults.scenario import scenario
from tests.faults.situations import until_dan_is_at_work
from tests.faults.stage import Row, Stage, require


@scenario("two clients with one id")
def two_clients(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        until_dan_is_at_work(fed)
        same_folder = fed.another("dan")
        fed.start_program(same_folder)
        code = same_folder.now.wait()
        require(code == 2, f"on the same state folder it ended with exit code {code}")
        twin = fed.another("dan", "--state", str(fed.folder / "twin" / "state"))
        fed.start_program(twin)
        fed.wait(lambda: "connected" in twin.log, "the twin's connection")
        fed.let_go("dan")
        row = stage.row(fed, "on one folder the second is refused; on two they take turns")
        for lives in (fed.clients["dan"], twin):
            require("another client calls itself 'dan'" in lives.log, "nobody told its owner")
        return row


@scenario("two coordinators: the second refuses")
def two_coordinators(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        until_dan_is_at_work(fed)
        beside = fed.another(COORDINATOR)
        elsewhere = fed.another(COORDINATOR, "--set", f"runs={fed.folder / 'elsewhere'}")
        for second in (beside, elsewhere):
            fed.start_program(second)
            code = second.now.wait()
            require(code == 2, f"a second coordinator ended with exit code {code}")
        fed.let_go("dan")
        return stage.row(fed, "on the same machine and on another")


@scenario("two coordinators: a standby takes over")
def standby(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        until_dan_is_at_work(fed)
        second = fed.start_program(fed.another(COORDINATOR), "--standby")
        fed.kill_coordinator()
        fed.coordinator.programs.append(second)
        fed.let_go("dan")
        return stage.row(fed, "after the first was killed, in the same round")


@scenario("two coordinators: a frozen one wakes after its successor took over", takes_s=25)
def successor(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        everybody = fed.plan.clients
        fed.hold(*everybody, number=1)
        # On another machine: they share neither ledger nor lock, only the broker.
        first = fed.another(COORDINATOR, "--set", f"runs={fed.folder / 'elsewhere'}")
        fed.start_program(first)
        fed.start_all_but(COORDINATOR)
        for who in everybody:
            fed.wait_for_training(who, 1)
        fed.start_program(fed.coordinator, "--standby")
        fed.wait(lambda: "standing by" in fed.coordinator.log, "a standby")
        frozen_at = monotonic()
        first.now.process.send_signal(signal.SIGSTOP)
        fed.let_go(*everybody)
        fed.wait(lambda: "round 1: invited" in fed.coordinator.log, "the successor's first round")
        first.now.process.send_signal(signal.SIGCONT)
        code = first.now.wait()
        require(code == 2, f"the one that was replaced ended with exit code {code}")
        row = stage.row(fed, "on another machine: it begins anew, the old one ends")
        return replace(row, stall_s=fed.closings.at[0] - frozen_at)

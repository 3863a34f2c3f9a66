"""Clocks that are wrong by hours, and jump."""

import re

from tests.faults.federation import Federation, Lives
from tests.faults.plan import COORDINATOR, Plan
from tests.faults.scenario import scenario
from tests.faults.stage import Row, Stage, require


@scenario("a client's clock jumps by hours")
def client_clock_jumps(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        clock = _Clock(fed, "dan")
        fed.hold("dan", number=2)
        fed.start_all_but("dan")
        fed.start_program(fed.clients["dan"], launcher=clock.launcher)
        fed.wait_for_training("dan", 2)
        clock.jump(+6 * 3600)
        fed.hold("dan", number=3)
        fed.wait_for_training("dan", 3)
        clock.jump(-9 * 3600)
        fed.let_go("dan")
        row = stage.row(fed, "+6 h in round 2, -9 h in round 3")
        require(clock.jumps_seen(fed.clients["dan"]) == 2, "dan's clock did not jump twice")
        return row


@scenario("the coordinator's clock jumps by hours")
def coordinator_clock_jumps(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        clock = _Clock(fed, COORDINATOR)
        fed.hold("dan", number=2)
        fed.start_all_but(COORDINATOR)
        fed.start_program(fed.coordinator, launcher=clock.launcher)
        fed.wait_for_training("dan", 2)
        clock.jump(+6 * 3600)
        fed.hold("dan", number=3)
        fed.wait_for_training("dan", 3)
        clock.jump(-9 * 3600)
        # It must not take its deadline from a clock that was right at another time.
        fed.kill_coordinator()
        fed.start_program(fed.coordinator, launcher=clock.launcher)
        fed.let_go("dan")
        row = stage.row(fed, "+6 h in round 2; -9 h in round 3 and killed there")
        require(clock.jumps_seen(fed.coordinator) == 2, "the clock did not jump twice")
        return row


class _Clock:
    """The clock of one program of a federation."""

    def __init__(self, fed: Federation, who: str) -> None:
        self._file = fed.folder / f"{who}.offset_s"
        self.launcher = ("tests.faults.shifted_clock", str(self._file))

    def jump(self, offset_s: float) -> None:
        """It is wrong by so much from now on."""
        written = self._file.with_suffix(".part")
        written.write_text(str(offset_s))
        written.replace(self._file)

    def jumps_seen(self, lives: Lives) -> int:
        """How many offsets the program has met when it looked at its clock."""
        return len(set(re.findall(r"shifted clock: (\S+) s", lives.log)))

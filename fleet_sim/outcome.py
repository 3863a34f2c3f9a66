"""What came of a fleet's run, in either mode."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.persistence.history import Record
from fedmqtt.effects import Seconds
from fleet_sim.lab_page import RoundMark


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    records: Sequence[Record]
    marks: Sequence[RoundMark]
    seconds: Seconds
    """Of the fleet's time."""
    is_finished: bool
    """All rounds were run before the fleet's hours were over."""
    bytes_up: int
    bytes_down: int
    trace: str = ""
    """Of the virtual mode."""
    speed: float = 1.0
    """Live: seconds of the fleet's time in a second; the records tell of seconds."""
    is_stopped: bool = False
    """Live: a person has ended it."""
    failure: str = ""
    """Live: why it ended early, and where to look, in a sentence."""
    overruns: int = 0
    """Live: trainings that took longer on this machine than on the device."""

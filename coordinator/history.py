"""What happened, round by round: one JSON object per line in the run's `history.jsonl`."""

from pathlib import Path

import msgspec
from msgspec import Struct, structs

from fedmqtt.status_pages import Figures, RoundLine
from fedmqtt.topics import ClientId, RoundId


class Record(Struct, frozen=True, kw_only=True):
    """One closed round, in full."""

    round: RoundId
    closed: str
    outcome: str
    reason: str
    base: str
    """Digest of the model the round started from."""
    invited: list[ClientId]
    answered: list[ClientId]
    dropped: list[ClientId]
    """Invited and lost: gone, too slow for the deadline, or declined."""
    surplus: list[ClientId] = []
    """Invited, and still at work when the round was complete without them."""
    declined: dict[ClientId, str]
    rejected: dict[ClientId, str]
    evaluated: list[ClientId]
    late_updates: int
    """Since the round before this one closed."""
    duration_s: float
    samples: int
    """Trained on, over all answers."""
    train_metrics: dict[str, float]
    """Means over the answers, weighted by samples."""
    figures: Figures | None
    """Of the model the round started from."""
    bytes_received: int
    bytes_published: int

    def line(self) -> RoundLine:
        return RoundLine(
            round=self.round,
            outcome=self.outcome,
            reason=self.reason,
            invited=len(self.invited),
            answered=len(self.answered),
            dropped=len(self.dropped),
            surplus=len(self.surplus),
            declined=len(self.declined),
            rejected=len(self.rejected),
            duration_s=self.duration_s,
            train_metrics=self.train_metrics,
            # A hundred matrices would make a page of megabytes; the newest is on the model's page.
            figures=None if self.figures is None else structs.replace(self.figures, confusion=None),
        )


def append(path: Path, record: Record) -> None:
    with path.open("ab") as file:
        file.write(msgspec.json.encode(record) + b"\n")


def read(path: Path) -> list[Record]:
    """All rounds of a run, oldest first."""
    return [msgspec.json.decode(line, type=Record) for line in path.read_bytes().splitlines()]

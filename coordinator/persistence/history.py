"""What happened, round by round: one JSON object per line in the run's `history.jsonl`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from coordinator.masking.clipped import Clipped
from coordinator.rounds import MEASURED, Close, Named
from fedmqtt.status_pages import CodecCount, Figures, Privacy, RoundLine
from fedmqtt.topics import ClientId, Digest, RoundId


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
    unfit: dict[ClientId, str] = {}
    """Who answered, with what keyholders open no sum of, and what was wrong: the sum is without."""
    late_updates: int
    """Since the round before this one closed."""
    late_counted: list[tuple[ClientId, RoundId]] = []
    """Answers to earlier rounds that went into this one's model: whose, and to which."""
    duration_s: float
    samples: int
    """Trained on, over all answers."""
    train_metrics: dict[str, float]
    """Means over the answers, weighted by samples."""
    figures: Figures | None
    """Of the model the round started from."""
    codecs: dict[str, CodecCount] = {}
    """Of the updates that counted, by codec."""
    clipped: Clipped | None = None
    """Of masked answers, where they tell of it."""
    bytes_received: int
    bytes_published: int
    quarantined: dict[ClientId, str] = {}
    """Who was in quarantine when it closed, and why."""
    privacy: Privacy | None = None
    """Of all models up to this round's, where there is noise."""

    @property
    def in_sum(self) -> int:
        """How many answers to it went into its model."""
        return len(self.answered) - len(self.unfit)

    @property
    def no_good(self) -> int:
        """Of how many clients no answer did, for what was wrong with it."""
        return len(self.rejected) + len(self.unfit)

    def line(self) -> RoundLine:
        return RoundLine(
            round=self.round,
            outcome=self.outcome,
            reason=self.reason,
            invited=len(self.invited),
            answered=self.in_sum,
            dropped=len(self.dropped),
            surplus=len(self.surplus),
            declined=len(self.declined),
            rejected=self.no_good,
            duration_s=self.duration_s,
            train_metrics=self.train_metrics,
            codecs=self.codecs,
            epsilon=None if self.privacy is None else self.privacy.epsilon,
            # A hundred matrices would make a page of megabytes; the newest is on the model's page.
            figures=None if self.figures is None else self.figures.without_details(),
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What a whole run came to."""

    rounds: int
    invited: int
    answered: int
    dropped: int
    rejected: int
    late: int
    figures: Figures | None
    """Of the newest model that was evaluated."""
    figures_round: RoundId | None
    late_counted: int = 0
    """Answers that came when their round had closed, and went into a later one's model. They are in
    `late` too."""
    declined: int = 0

    @property
    def heard(self) -> int:
        """Answers that a model was made of."""
        return self.answered + self.late_counted

    def sentence(self) -> str:
        """What became of all who were invited to train, for people."""
        late = f" ({self.late_counted} when their round had closed)" if self.late_counted else ""
        too_late = max(0, self.late - self.late_counted)
        return (
            f"{self.heard} of {self.invited} invited answered{late},"
            f" {_lost(self.dropped, self.declined)}, {self.rejected} rejected, {too_late} late"
        )

    def plus(self, record: Record) -> "Totals":
        return Totals(
            rounds=self.rounds + (record.outcome != "evaluated"),
            invited=self.invited + len(record.invited),
            answered=self.answered + record.in_sum,
            dropped=self.dropped + len(record.dropped),
            rejected=self.rejected + record.no_good,
            late=self.late + record.late_updates,
            figures=record.figures or self.figures,
            figures_round=record.round if record.figures else self.figures_round,
            late_counted=self.late_counted + len(record.late_counted),
            declined=self.declined + len(record.declined),
        )


def record(
    close: Close,
    *,
    left_out: Collection[Named] = (),
    unfit: Mapping[ClientId, str] | None = None,
    closed: str,
    base: Digest,
    late_updates: int,
    samples: int,
    train_metrics: dict[str, float],
    figures: Figures | None,
    codecs: Mapping[str, CodecCount] | None = None,
    clipped: Clipped | None = None,
    bytes_received: int,
    bytes_published: int,
    quarantined: Mapping[ClientId, str] | None = None,
    privacy: Privacy | None = None,
) -> Record:
    """What is remembered of a round that the machine has closed.

    `left_out` are late answers that it took up, and that were no good when they were to be folded.
    """
    return Record(
        round=close.round,
        closed=closed,
        outcome=close.outcome,
        reason=close.reason,
        base=base,
        invited=sorted(close.invited),
        answered=sorted(close.answered),
        dropped=sorted(close.dropped),
        surplus=sorted(close.surplus),
        declined=dict(close.declined),
        rejected=dict(close.rejected),
        evaluated=sorted(close.evaluated),
        unfit=dict(unfit or {}),
        late_updates=late_updates,
        late_counted=[(named.client, named.round) for named in close.held if named not in left_out],
        duration_s=round(close.duration_s, 4),
        samples=samples,
        train_metrics=train_metrics,
        figures=figures,
        codecs=dict(codecs or {}),
        clipped=clipped,
        bytes_received=bytes_received,
        bytes_published=bytes_published,
        quarantined=dict(quarantined or {}),
        privacy=privacy,
    )


NOTHING = Totals(0, 0, 0, 0, 0, 0, None, None)


def sentence(record: Record) -> str:
    """One round in the log."""
    if record.figures is not None:
        figures = _told(record.figures.metrics, "")
    else:
        # Nobody measured the model. What clients tell of their training is of their own data, and
        # under a mask they tell nothing.
        figures = _told(record.train_metrics, "training ")
    if record.outcome == "evaluated" or record.reason == MEASURED:
        return (
            f"round {record.round} evaluated ({record.reason}): measured by"
            f" {len(record.evaluated)}, {record.duration_s:.1f} s{figures}"
        )
    if record.privacy is not None:
        figures += f", epsilon {record.privacy.epsilon:.4g}"
    late = len(record.late_counted)
    earlier = f", and {late} to earlier rounds" if late else ""
    return (
        f"round {record.round} {record.outcome} ({record.reason}):"
        f" {record.in_sum} of {len(record.invited)} answered{earlier},"
        f" {_lost(len(record.dropped), len(record.declined))}, {record.no_good} rejected,"
        f" {record.duration_s:.1f} s{figures}"
    )


def _lost(dropped: int, declined: int) -> str:
    """Those that declined are among those that dropped out."""
    return f"{dropped} dropped" + (f" ({declined} declined)" if declined else "")


def _told(metrics: Mapping[str, float], kind: str) -> str:
    return "".join(f", {kind}{name} {value:.4f}" for name, value in metrics.items())


def append(path: Path, record: Record) -> None:
    with path.open("ab") as file:
        file.write(msgspec.json.encode(record) + b"\n")


def write(path: Path, records: Sequence[Record]) -> None:
    """All of them, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    part.replace(path)


def read_whole(path: Path) -> list[Record]:
    """As `read`, of a file that is being written: without a line that is not whole yet."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=Record) for line in whole.splitlines()]


def read(path: Path) -> list[Record]:
    """All rounds of a run, oldest first."""
    return [msgspec.json.decode(line, type=Record) for line in path.read_bytes().splitlines()]

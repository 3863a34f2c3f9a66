"""Dropout: clients that were invited, and are gone before they are done.

    online   ──────────┐ train ┌─ ─ ─ ─ ─ ─ ─ ─          the round goes on without it, or waits;
    offline            └───────┘  its answer is late      what it trained offline comes later

How it is made: people's devices are online and away by turns, for exponential times (`markov`).
They are away for two minutes on average, and online for so long that somebody who trains for 40 s
leaves before the end with the asked probability p: -40 s / ln(1 - p). A device that is away goes
on training, as a phone in a tunnel does, and sends its answer when it is back. p = 0 is `always`.

What the table says of dropout is measured: the share of those invited whose round closed without
them though it wanted them. It is below p, as a round may wait for somebody who comes back in time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

from coordinator.persistence.history import Record
from experiments.cells import Cell, Played
from experiments.curves import crossing, latest, mean_if_all
from experiments.people import Task, fleet_of

TARGET = 0.90
LATEST = 10
"""The accuracy of a run is the mean of so many of its last models."""

TRAINS_S = 40.0
AWAY_S = 120.0

OVER_SELECTION = {
    "none": ("federation.rounds.over_selection=1.0",),
    "learned": ("federation.rounds.over_selection=1.5", "federation.tuning.enabled=true"),
}


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    task: str
    dropout: float
    over_selection: str
    late: str

    @property
    def has_none_late(self) -> bool:
        """Nobody leaves, and everybody is waited for: one policy does for all. With over-selection
        those who are slower than the cohort are late."""
        return self.dropout == 0 and self.over_selection == "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one choice, over its seeds."""

    choice: Choice
    lost: float
    """Measured share of those wanted."""
    accuracy: float
    hours: float | None
    """Of the fleet's time until the target, on average; None where not all seeds reached it."""
    round_s: float
    late_counted: float
    """Late answers in the model, a run."""
    seeds: int


def choices(
    tasks: Sequence[str],
    dropouts: Sequence[float],
    over_selections: Sequence[str],
    policies: Sequence[str],
) -> list[Choice]:
    found = [Choice(*one) for one in product(tasks, dropouts, over_selections, policies)]
    return [one for one in found if not one.has_none_late or one.late == policies[0]]


def cells(choice: Choice, task: Task, seeds: Sequence[int]) -> Iterator[Cell]:
    for seed in seeds:
        name = (
            f"{choice.task}-dropout-{choice.dropout:g}-over-{choice.over_selection}"
            f"-late-{choice.late}-seed-{seed}"
        )
        sets = (*_weather(choice.dropout), *OVER_SELECTION[choice.over_selection])
        yield fleet_of(task, name, seed, (*sets, f"federation.late.policy={choice.late}"))


def outcome(choice: Choice, played: Sequence[Played]) -> Outcome:
    return Outcome(
        choice=choice,
        lost=mean(_lost_share(one.records) for one in played),
        accuracy=mean(latest(one.records, LATEST) for one in played),
        hours=mean_if_all([crossing(one.by_hour, TARGET) for one in played]),
        round_s=mean(record.duration_s for one in played for record in one.rounds),
        late_counted=mean(
            sum(len(record.late_counted) for record in one.records) for one in played
        ),
        seeds=len(played),
    )


def _weather(dropout: float) -> tuple[str, ...]:
    if dropout == 0:
        return ("connectivity.kind=always",)
    return (
        "connectivity.kind=markov",
        f"connectivity.settings.online_s={-TRAINS_S / math.log1p(-dropout):.1f}",
        f"connectivity.settings.offline_s={AWAY_S}",
    )


def _lost_share(records: Sequence[Record]) -> float:
    wanted = sum(len(one.invited) - len(one.surplus) for one in records)
    return sum(len(one.dropped) for one in records) / max(1, wanted)

"""What is won where no round waits: one device in ten takes ten times as long as the others.

34 phones and watches (or 21 people of HAR), always online, 13 at work at a time in every run:

  synchronous       rounds of 13 that wait for all of them
  over-selection    13 are invited, and a round is complete with ten
  fedbuff-10, -5    asynchronous: a model from each ten answers, or five
  fedasync          asynchronous: a model from each answer

All have the same time, and learn as much in it as they can; models are judged on data that nobody
trains on. Prints a table, and the result as JSON on the last line. What came of it is in
docs/strategies.md. A run takes a minute or two on one core; an interrupted experiment is gone on
with.

  python experiments/asynchronous.py
  python experiments/asynchronous.py --modes over-selection fedbuff-5 --seeds 1 --hours 0.2
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import program
from experiments.cells import Bars, Cell, Played, add_running_arguments, bars, play_whole
from experiments.curves import crossing, mean_if_all
from experiments.people import Task, fleet_of, tasks
from experiments.tables import markdown

AT_WORK = 13
MODES = {
    "synchronous": ("federation.rounds.cohort=13",),
    "over-selection": ("federation.rounds.cohort=10", "federation.rounds.over_selection=1.3"),
    "fedbuff-10": ("federation.rounds.cohort=10", "federation.aggregation=fedbuff"),
    "fedbuff-5": ("federation.rounds.cohort=5", "federation.aggregation=fedbuff"),
    "fedasync": (
        "federation.rounds.cohort=1",
        "federation.aggregation=fedasync",
        "federation.evaluation.every=5",
    ),
}
SLOW = (
    "device.table=slow_tenth.csv",
    "device.spread=0.3",
    "federation.rounds.count=100000",
    "federation.rounds.quorum=1",
    # The slow have the time that they need.
    "federation.rounds.deadline_s=3000.0",
)
ASYNCHRONOUS = (
    "federation.rounds.mode=asynchronous",
    f"federation.rounds.concurrency={AT_WORK}",
    # Ten times as long as the others is many versions of the model.
    "federation.late.rounds_max=200",
)
TARGETS = (0.80, 0.90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one mode, over its seeds."""

    mode: str
    seconds: list[float | None]
    """Of the fleet's time until each target; None where not all seeds reached it."""
    accuracy: float
    """Mean over the models of the last quarter of the time."""
    models: float
    answers: float
    """That went into them."""
    seeds: int


def main() -> None:
    arguments = _parse()
    task = tasks(arguments.har)["har" if arguments.har else "phonewatch"]
    count = len(arguments.modes) * len(arguments.seeds)
    with program.resumable("asynchronous.py"), bars(count) as bar:
        outcomes = [_outcome(mode, task, arguments, bar) for mode in arguments.modes]
    print(_table(outcomes, arguments.hours))
    program.print_result("asynchronous", outcomes=list(map(asdict, outcomes)))


def _outcome(mode: str, task: Task, arguments: argparse.Namespace, bar: Bars) -> Outcome:
    played = []
    for seed in arguments.seeds:
        cell = _cell(mode, task, seed, arguments.hours)
        played.append(play_whole(cell, arguments, bar, f"{mode}, seed {seed}"))
    return Outcome(
        mode=mode,
        seconds=[_reached(played, target) for target in TARGETS],
        accuracy=mean(_last_accuracy(one, arguments.hours) for one in played),
        models=mean(sum(r.outcome == "averaged" for r in one.records) for one in played),
        answers=mean(
            sum(len(record.answered) + len(record.late_counted) for record in one.records)
            for one in played
        ),
        seeds=len(played),
    )


def _cell(mode: str, task: Task, seed: int, hours: float) -> Cell:
    is_asynchronous = mode.startswith("fed")
    sets = (*SLOW, *(ASYNCHRONOUS if is_asynchronous else ()), *MODES[mode], f"hours_max={hours}")
    return fleet_of(task, f"{mode}-{hours:g}-h-seed-{seed}", seed, sets)


def _reached(played: Sequence[Played], target: float) -> float | None:
    hours = mean_if_all([crossing(one.by_hour, target) for one in played])
    return None if hours is None else hours * 3600


def _last_accuracy(played: Played, hours: float) -> float:
    curve = played.by_hour
    last = [accuracy for hour, accuracy in curve if hour >= 0.75 * hours]
    return mean(last) if last else curve[-1][1]


def _table(outcomes: Sequence[Outcome], hours: float) -> str:
    rows = [
        [
            one.mode,
            *(f"{at:.0f} s" if at is not None else "not reached" for at in one.seconds),
            f"{one.accuracy:.3f}",
            f"{one.models:.0f}",
            f"{one.answers:.0f}",
        ]
        for one in outcomes
    ]
    head = ["mode", *(f"to {target:.2f}" for target in TARGETS), "at the end", "models", "answers"]
    about = f"{AT_WORK} at work, {hours * 60:g} minutes, {outcomes[0].seeds} seeds"
    return f"{about}\n\n{markdown(head, rows)}\n"


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "har")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--hours", type=float, default=0.6, help="of the fleet's time")
    add_running_arguments(parser, "asynchronous")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Whom to invite: each selection policy, with people who are always there and with others.

  there    HAR by person, everybody online, devices very different in speed; judged on other
           people, who never train. What counts: the fleet's time to 0.90, and the accuracy.
  seldom   HAR in shards of two activities, the labels' order deciding how often a client is online
           (as in experiments/seldom_online.py: some activities are seldom there). What counts:
           accuracy over the last rounds, and that of the worst activity.
  devices  phones and watches, for policies that know them apart by their labels.

Prints a table for each, and the result as JSON on the last line. What came of it is in
docs/selection.md. A run takes some 10 s on one core; an interrupted experiment is gone on with.

  python experiments/selection.py --har path/to/har
  python experiments/selection.py --har path/to/har --fleets there --policies uniform oort --seeds 1
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator import selection
from coordinator.persistence.history import Record
from experiments import program
from experiments.cells import Bars, Played, add_running_arguments, bars, play_whole
from experiments.curves import crossing, latest, mean_if_all
from experiments.people import Task, fleet_of, tasks
from experiments.seldom_online import SELDOM
from experiments.tables import markdown
from fedmqtt import parts

FLEETS = {
    "there": (
        "har",
        (
            "connectivity.kind=always",
            "device.spread=0.9",
            "federation.rounds.count=60",
            "federation.rounds.deadline_s=1000.0",
        ),
    ),
    "seldom": (
        "har",
        (
            "data.split=shards",
            "clients=21",
            *SELDOM,
            "federation.rounds.count=100",
            "federation.rounds.clients_min=3",
        ),
    ),
    "devices": (
        "phonewatch",
        ("connectivity.kind=always", "device.labels=names", "device.spread=0.9"),
    ),
}
TARGET = 0.90
_LAST = 30
"""Rounds over which accuracies and recalls are means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one policy in one fleet, over its seeds."""

    fleet: str
    policy: str
    accuracy: float
    worst: float
    """Recall of the class that does worst."""
    hours: float | None
    """Of the fleet's time until the target; None where not all seeds reached it."""
    round_s: float
    fairness: float
    """Jain's index of the answers that counted, over all clients."""
    seeds: int


def main() -> None:
    arguments = _parse()
    known = tasks(arguments.har)
    chosen = [name for name in arguments.fleets if FLEETS[name][0] in known]
    outcomes: list[Outcome] = []
    count = len(chosen) * len(arguments.policies) * len(arguments.seeds)
    with program.resumable("selection.py"), bars(count) as bar:
        for name in chosen:
            task = known[FLEETS[name][0]]
            for policy in arguments.policies:
                outcomes.append(_outcome(name, policy, task, arguments, bar))
    for name in chosen:
        print(_table([one for one in outcomes if one.fleet == name]))
    program.print_result("selection", outcomes=list(map(asdict, outcomes)))


def _outcome(
    name: str, policy: str, task: Task, arguments: argparse.Namespace, bar: Bars
) -> Outcome:
    sets = (*FLEETS[name][1], f"federation.selection={policy}")
    played = []
    for seed in arguments.seeds:
        cell = fleet_of(task, f"{name}-{policy}-seed-{seed}", seed, sets)
        played.append(play_whole(cell, arguments, bar, f"{name}, {policy}, seed {seed}"))
    return Outcome(
        fleet=name,
        policy=policy,
        accuracy=mean(latest(one.records, _LAST) for one in played),
        worst=mean(_worst_recall(one.records) for one in played),
        hours=mean_if_all([crossing(one.by_hour, TARGET) for one in played]),
        round_s=mean(record.duration_s for one in played for record in one.rounds),
        fairness=mean(map(_fairness, played)),
        seeds=len(played),
    )


def _worst_recall(records: Sequence[Record]) -> float:
    matrices = [one.figures.confusion for one in records if one.figures is not None]
    recalls = [
        [row[i] / max(1, sum(row)) for i, row in enumerate(matrix)]
        for matrix in matrices[-_LAST:]
        if matrix is not None
    ]
    classes = range(len(recalls[0]))
    return min(mean(row[i] for row in recalls) for i in classes)


def _fairness(played: Played) -> float:
    answers = Counter(str(client) for record in played.records for client in record.answered)
    counts = [answers[one.client] for one in played.page.clients]
    total = sum(counts)
    return total * total / (len(counts) * sum(count * count for count in counts))


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            one.policy,
            f"{one.accuracy:.3f}",
            f"{one.worst:.2f}",
            f"{one.hours:.2f} h" if one.hours is not None else "not reached",
            f"{one.round_s:.0f} s",
            f"{one.fairness:.2f}",
        ]
        for one in outcomes
    ]
    head = ["policy", "accuracy", "worst class", f"to {TARGET:.2f}", "a round", "fairness"]
    return f"{outcomes[0].fleet}, {outcomes[0].seeds} seeds\n\n{markdown(head, rows)}\n"


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "har")
    parser.add_argument("--fleets", nargs="+", choices=FLEETS, default=list(FLEETS))
    policies = parts.names(selection)
    parser.add_argument("--policies", nargs="+", choices=policies, default=policies)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add_running_arguments(parser, "selection")
    return parser.parse_args()


if __name__ == "__main__":
    main()

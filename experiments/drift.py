"""Client drift: SCAFFOLD and FedProx beside FedAvg where clients' data differs and local work is
long.

  har      HAR in shards of two activities, 21 clients, judged on nine people who never train
  digits   small MNIST, 50 clients with two shards each (two digits, mostly)

Each client trains five epochs in a round. The local rate is the same for all. Who is in a round:

  all      everybody
  fifth    a fifth, drawn at random from all
  seldom   a fifth, of those who are there: odds of being online from 1:60 to 60:1, and what data a
           client has decides (as in experiments/seldom_online.py)

  accuracy     mean of the last ten models, over the seeds; its spread is the standard deviation
  early        the same of the ten models in the middle of the run
  MB           sent and fetched by all clients together, in a run

A run takes 10 to 40 s on one core, all of it some 15 minutes. A run that was made is not made
again: an interrupted experiment is gone on with by the same command. What came of it is in
docs/strategies.md.

  python experiments/drift.py --har path/to/har --mnist path/to/mnist
  python experiments/drift.py --har path/to/har --cohorts fifth --seeds 1

Prints a table for each fleet and cohort, and the result as JSON on the last line.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import program
from experiments.cells import Bars, Played, add_running_arguments, bars, play_whole
from experiments.curves import by_round
from experiments.people import Task, digits, fleet_of, tasks
from experiments.seldom_online import SELDOM
from experiments.tables import markdown, plus_minus

CLIENTS = {"har": 21, "digits": 50}
ROUNDS = {"har": 40, "digits": 60}
COHORTS = {"all": 1, "fifth": 5, "seldom": 5}
"""One in so many takes part in a round."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "fedavg": ("aggregation=fedavg",),
    "fedprox, mu = 0.1": ("aggregation=fedprox", "aggregation_settings.mu=0.1"),
    "scaffold": ("aggregation=scaffold",),
    "scaffold, clients = all": ("aggregation=scaffold", "aggregation_settings.clients={clients}"),
    "mifa": ("aggregation=mifa",),
}
LATEST = 10
_PARTIAL = ("scaffold, clients = all", "mifa")
"""Only where not everybody is in each round: else they are the same as others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one variant, over its seeds."""

    fleet: str
    cohort: str
    variant: str
    accuracy: float
    spread: float | None
    """None with one seed."""
    early: float
    megabytes: float
    """A run."""
    curves: list[list[float]]
    """By seed: the accuracy of each model."""


def main() -> None:
    arguments = _parse()
    known = _fleets(arguments)
    cells = [(fleet, cohort) for fleet in known for cohort in arguments.cohorts]
    outcomes: list[Outcome] = []
    count = sum(len(_variants(cohort)) for _, cohort in cells)
    with program.resumable("drift.py"), bars(count * len(arguments.seeds)) as bar:
        for fleet, cohort in cells:
            for variant in _variants(cohort):
                outcomes.append(_outcome(fleet, known[fleet], cohort, variant, arguments, bar))
    for fleet, cohort in cells:
        alike = [one for one in outcomes if (one.fleet, one.cohort) == (fleet, cohort)]
        print(f"{fleet}, {cohort} in each round\n\n{_table(alike)}\n")
    program.print_result("drift", outcomes=list(map(asdict, outcomes)))


def _variants(cohort: str) -> list[str]:
    return [one for one in VARIANTS if one not in _PARTIAL or COHORTS[cohort] > 1]


def _fleets(arguments: argparse.Namespace) -> dict[str, Task]:
    """Those for which there is data."""
    found: dict[str, Task] = {}
    long = ("federation.training.epochs=5", "data.split=shards", "connectivity.kind=always")
    if arguments.har is not None:
        har = tasks(arguments.har)["har"]
        found["har"] = Task(har.data, (*har.sets, *long), har.fleet)
    if arguments.mnist is not None:
        found["digits"] = digits(arguments.mnist, *long)
    return found


def _outcome(
    fleet: str, task: Task, cohort: str, variant: str, arguments: argparse.Namespace, bar: Bars
) -> Outcome:
    clients = CLIENTS[fleet]
    size = clients // COHORTS[cohort]
    weather = SELDOM if cohort == "seldom" else ()
    sets = [
        f"clients={clients}",
        f"federation.rounds.count={arguments.rounds or ROUNDS[fleet]}",
        f"federation.rounds.cohort={size}",
        f"federation.rounds.quorum={size}",
        f"federation.rounds.clients_min={size if weather else clients}",
        *weather,
        *(f"federation.{word.format(clients=clients)}" for word in VARIANTS[variant]),
    ]
    place = list(VARIANTS).index(variant)
    played: list[Played] = []
    for seed in arguments.seeds:
        cell = fleet_of(task, f"{fleet}-{cohort}-{place}-seed-{seed}", seed, sets)
        called = f"{fleet}, {cohort}, {variant}, seed {seed}"
        played.append(play_whole(cell, arguments, bar, called))
    curves = [[accuracy for _, accuracy in by_round(one.records)] for one in played]
    latest = [mean(curve[-LATEST:]) for curve in curves]
    return Outcome(
        fleet=fleet,
        cohort=cohort,
        variant=variant,
        accuracy=mean(latest),
        spread=stdev(latest) if len(latest) > 1 else None,
        early=mean(mean(_middle(curve)) for curve in curves),
        megabytes=mean(_megabytes(one) for one in played),
        curves=curves,
    )


def _middle(curve: Sequence[float]) -> Sequence[float]:
    begin = max(0, (len(curve) - LATEST) // 2)
    return curve[begin : begin + LATEST]


def _megabytes(played: Played) -> float:
    last = played.page.rounds[-1]
    return (last.bytes_up + last.bytes_down) / 1e6


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for one in outcomes:
        accuracy = f"{100 * one.accuracy:.1f}{plus_minus(one.spread)}"
        rows.append([one.variant, f"{100 * one.early:.1f}", accuracy, f"{one.megabytes:.0f}"])
    return markdown(["", "half-way, %", "at the end, %", "MB"], rows)


def _parse() -> Any:
    parser = program.parser(__doc__, "har", "mnist")
    parser.add_argument("--cohorts", nargs="+", choices=list(COHORTS), default=list(COHORTS))
    parser.add_argument("--rounds", type=int, default=0, help="instead of the fleet's own count")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    add_running_arguments(parser, "drift")
    arguments = parser.parse_args()
    if not _fleets(arguments):
        parser.error("say where data is: --har, --mnist")
    return arguments


if __name__ == "__main__":
    main()

"""Server optimisers beside FedAvg where clients' data differs, each at its best server rate.

  har      HAR by person, 21 people, five a round; judged on nine others, who never train
  digits   small MNIST, 50 clients with two shards each (two digits, mostly), ten a round
  seldom   HAR in shards of two activities, whose order decides how often a client is online: some
           activities are seldom there (as in experiments/seldom_online.py)

Each optimiser is run once at each of its rates, with the first seed; the rate whose last models
are the most accurate is then run with the other seeds too. The local rate is the same for all.

  accuracy     mean of the last ten models, over the seeds; its spread is the standard deviation
  rounds       until the mean accuracy of five models in a row is that of `fedavg` at its end, at
               its best rate, less two points

A run takes 3 to 10 s on one core, all of it with three seeds some 8 minutes. A run that was made
is not made again: an interrupted experiment is gone on with by the same command. What came of it
is in docs/strategies.md.

  python experiments/adaptive.py --har path/to/har --mnist path/to/mnist
  python experiments/adaptive.py --mnist path/to/mnist --optimisers fedavg fedadam --seeds 1

Prints a table for each fleet, and the result as JSON on the last line.
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
from experiments.cells import Bars, Cell, Played, add_running_arguments, bars, play
from experiments.curves import by_round, crossing, latest, mean_if_all, smooth
from experiments.people import Task, digits, fleet_of, tasks
from experiments.seldom_online import SELDOM
from experiments.tables import markdown, plus_minus

RATES: dict[str, tuple[float, ...]] = {
    "fedavg": (0.5, 1.0, 2.0),
    "fedavgm": (0.1, 0.3, 1.0),
    "fedadagrad": (0.01, 0.03, 0.1),
    "fedadam": (0.003, 0.01, 0.03),
    "fedyogi": (0.003, 0.01, 0.03),
    # It finds its own.
    "fedexp": (),
}
"""The server rates that are tried, by optimiser."""

ROUNDS = {"har": 30, "digits": 60, "seldom": 60}
LATEST = 10
SMOOTHED = 5
SLACK = 0.02
"""How far below the accuracy of `fedavg` the target is."""

_HERE = ("connectivity.kind=always",)
_SELDOM = (
    "data.split=shards",
    "clients=21",
    *SELDOM,
    "federation.rounds.clients_min=3",
)
_DIGITS = (
    "federation.rounds.clients_min=50",
    "clients=50",
    "data.split=shards",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one optimiser in one fleet, at its best rate."""

    fleet: str
    optimiser: str
    rate: float | None
    tried: dict[str, float]
    """Accuracy with the first seed, by rate."""
    accuracy: float
    spread: float | None
    """None with one seed."""
    curves: list[list[float]]
    """By seed: the accuracy of each model."""


def main() -> None:
    arguments = _parse()
    known = _fleets(arguments)
    outcomes: list[Outcome] = []
    runs_each = sum(max(1, len(RATES[one])) for one in arguments.optimisers)
    runs_each += len(arguments.optimisers) * (len(arguments.seeds) - 1)
    with program.resumable("adaptive.py"), bars(len(known) * runs_each) as bar:
        for fleet in known:
            for optimiser in arguments.optimisers:
                outcomes.append(_outcome(fleet, known[fleet], optimiser, arguments, bar))
    for fleet in known:
        print(_table([one for one in outcomes if one.fleet == fleet]))
    told = [asdict(one) for one in outcomes]
    for line in told:
        # Thousands of numbers; the run folders have them.
        line["seeds"] = len(line.pop("curves"))
    program.print_result("adaptive", outcomes=told)


def _fleets(arguments: argparse.Namespace) -> dict[str, tuple[Task, tuple[str, ...]]]:
    """Those for which there is data."""
    found: dict[str, tuple[Task, tuple[str, ...]]] = {}
    if arguments.har is not None:
        har = tasks(arguments.har)["har"]
        found |= {"har": (har, _HERE), "seldom": (har, _SELDOM)}
    if arguments.mnist is not None:
        found["digits"] = (digits(arguments.mnist, *_DIGITS), ())
    return {name: found[name] for name in arguments.fleets if name in found}


def _outcome(
    fleet: str,
    how: tuple[Task, tuple[str, ...]],
    optimiser: str,
    arguments: argparse.Namespace,
    bar: Bars,
) -> Outcome:
    def run(rate: float | None, seed: int) -> Played:
        cell = _cell(fleet, how, optimiser, rate, seed, arguments.rounds or ROUNDS[fleet])
        one = play(cell, arguments, bar, lambda records: False)
        bar.end(f"{cell.name}: {_latest(one):.3f}, {one.wall_s:.0f} s")
        return one

    first, *others = arguments.seeds
    tried = {rate: run(rate, first) for rate in RATES[optimiser] or (None,)}
    best = max(tried, key=lambda rate: _latest(tried[rate]))
    played = [tried[best], *(run(best, seed) for seed in others)]
    found = [_latest(one) for one in played]
    return Outcome(
        fleet=fleet,
        optimiser=optimiser,
        rate=best,
        tried={f"{rate:g}": _latest(one) for rate, one in tried.items() if rate is not None},
        accuracy=mean(found),
        spread=stdev(found) if len(found) > 1 else None,
        curves=[[accuracy for _, accuracy in by_round(one.records)] for one in played],
    )


def _cell(
    fleet: str,
    how: tuple[Task, tuple[str, ...]],
    optimiser: str,
    rate: float | None,
    seed: int,
    rounds: int,
) -> Cell:
    task, sets = how
    said = [*sets, f"federation.aggregation={optimiser}", f"federation.rounds.count={rounds}"]
    if rate is not None:
        said.append(f"federation.aggregation_settings.rate={rate:g}")
    plain = "" if rate is None else f"-{rate:g}"
    return fleet_of(task, f"{fleet}-{optimiser}{plain}-seed-{seed}", seed, said)


def _latest(one: Played) -> float:
    return latest(one.records, LATEST)


def _rounds_to(target: float, outcome: Outcome) -> float | None:
    """Mean over the seeds; None where not all reached it."""
    curves = [list(enumerate(curve)) for curve in outcome.curves]
    return mean_if_all([crossing(smooth(curve, SMOOTHED), target) for curve in curves])


def _table(outcomes: Sequence[Outcome]) -> str:
    base = next((one for one in outcomes if one.optimiser == "fedavg"), outcomes[0])
    target = base.accuracy - SLACK
    rows = []
    for one in outcomes:
        rounds = _rounds_to(target, one)
        rows.append(
            [
                one.optimiser,
                "its own" if one.rate is None else f"{one.rate:g}",
                ", ".join(f"{rate}: {100 * found:.1f}" for rate, found in one.tried.items()),
                f"{100 * one.accuracy:.1f}{plus_minus(one.spread)}",
                "not reached" if rounds is None else f"{rounds:.0f}",
            ]
        )
    head = ["optimiser", "best rate", "seed 1, by rate", "accuracy, %"]
    head.append(f"rounds to {100 * target:.1f}%")
    seeds = len(outcomes[0].curves)
    return f"{outcomes[0].fleet}, {seeds} seeds\n\n{markdown(head, rows)}\n"


def _parse() -> Any:
    parser = program.parser(__doc__, "har", "mnist")
    parser.add_argument("--fleets", nargs="+", choices=list(ROUNDS), default=list(ROUNDS))
    parser.add_argument("--optimisers", nargs="+", choices=list(RATES), default=list(RATES))
    parser.add_argument("--rounds", type=int, default=0, help="instead of the fleet's own count")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add_running_arguments(parser, "adaptive")
    arguments = parser.parse_args()
    if not _fleets(arguments):
        parser.error("say where data is: --har, --mnist")
    return arguments


if __name__ == "__main__":
    main()

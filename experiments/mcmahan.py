"""How many rounds until the digits are read? Tables 1 and 2 of the paper on federated averaging.

    model  split    target  E  B   C    rounds in the paper
    2nn    iid      97%     1  10  0.1   87   table 1
    2nn    non-iid  97%     1  10  0.1  664   table 1
    cnn    iid      99%     5  10  0.1   20   table 2
    cnn    non-iid  99%     5  10  0.1  229   table 2

100 clients with 600 digits of MNIST each: dealt at random (iid), or as two of the 200 shards of the
sorted digits (non-iid). Every model is measured on all 10,000 test digits; how rounds are read off
that curve is in curves.py. The learning rate is constant, and the best of a grid, as in the
paper, which does not say what it was. The first rate runs until the target is reached; the others
are given up when they have taken longer than the best before them.

On one core a round takes 0.3 s for the 2NN and 50 s for the CNN: half a minute a rate for 2nn iid,
two minutes for 2nn non-iid, a quarter of an hour for cnn iid, and from one to three hours for cnn
non-iid. A rate that was run is not run again: an interrupted experiment is gone on with by the same
command. What came of it is in docs/experiments.md.

  python experiments/mcmahan.py --data path/to/mnist --model 2nn --split iid

The last line is the result as JSON. The run folders can be looked at with `fedmqtt report`.

Source: McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", AISTATS 2017.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator.persistence.history import Record
from experiments import program
from experiments.cells import FLEETS, Bars, Cell, Played, add_running_arguments, bars, play
from experiments.curves import by_round, crossing
from experiments.tables import markdown


@dataclass(frozen=True, slots=True)
class _Paper:
    table: int
    rounds: int
    target: float
    epochs: int


_PAPER = {
    ("2nn", "iid"): _Paper(1, 87, 0.97, 1),
    ("2nn", "non-iid"): _Paper(1, 664, 0.97, 1),
    ("cnn", "iid"): _Paper(2, 20, 0.99, 5),
    ("cnn", "non-iid"): _Paper(2, 229, 0.99, 5),
}

_SPLITS = {"iid": "iid", "non-iid": "shards"}

_RATES = (0.215, 0.1, 0.464)
"""Steps of 10^(1/3), the paper's coarser grid; the middle first, as it is the likeliest."""


@dataclass(frozen=True, slots=True)
class _Tried:
    rate: float
    rounds: float | None
    """None: given up, or not reached."""
    played: Played

    @property
    def rounds_run(self) -> int:
        return int(by_round(self.played.records)[-1][0])

    @property
    def best(self) -> float:
        return max(accuracy for _, accuracy in by_round(self.played.records))


def main() -> None:
    arguments = _parse()
    paper = _PAPER[arguments.model, arguments.split]
    with program.resumable("mcmahan.py"), bars(len(arguments.rates)) as bar:
        tried = _try_all(arguments, paper, bar)
    print(_table(arguments, paper, tried))
    print(json.dumps(_result(arguments, paper, tried)))


def _try_all(arguments: argparse.Namespace, paper: _Paper, bar: Bars) -> list[_Tried]:
    target = arguments.target or paper.target
    tried: list[_Tried] = []
    for rate in arguments.rates:
        at_most = min((one.rounds for one in tried if one.rounds), default=math.inf)

        def enough(records: Sequence[Record], at_most: float = at_most) -> bool:
            figures = records[-1].figures
            is_there = figures is not None and figures.metrics["accuracy"] >= target
            return is_there or records[-1].round - 1 >= at_most

        played = play(_cell(arguments, paper, rate), arguments, bar, enough)
        found = _Tried(rate, crossing(by_round(played.records), target), played)
        tried.append(found)
        bar.end(f"{played.folder.name}: {_say_rounds(found)} rounds, {played.wall_s:.0f} s")
    return tried


def _cell(arguments: argparse.Namespace, paper: _Paper, rate: float) -> Cell:
    name = f"{arguments.model}-{arguments.split}-rate-{rate:g}-seed-{arguments.seed}"
    if arguments.target:
        name += f"-to-{arguments.target:g}"
    sets = (
        f"data.path={json.dumps(str(arguments.data.resolve()))}",
        f"data.split={_SPLITS[arguments.split]}",
        f"federation.task=learning_tasks.mnist_{arguments.model}",
        f"federation.training.epochs={paper.epochs}",
        f"federation.training.learning_rate={rate:g}",
        f"federation.rounds.count={arguments.rounds or 2 * paper.rounds}",
        f"federation.seed={arguments.seed}",
        f"seed={arguments.seed}",
    )
    return Cell(name, FLEETS / "mnist.toml", sets)


def _best(tried: Sequence[_Tried]) -> _Tried | None:
    there = [one for one in tried if one.rounds is not None]
    return min(there, key=lambda one: one.rounds or 0.0, default=None)


def _table(arguments: argparse.Namespace, paper: _Paper, tried: Sequence[_Tried]) -> str:
    rows = [
        [
            f"{one.rate:g}" + (" (best)" if one is _best(tried) else ""),
            _say_rounds(one),
            f"{one.best:.4f}",
            f"{one.played.wall_s:.0f} s",
        ]
        for one in sorted(tried, key=lambda one: one.rate)
    ]
    target = arguments.target or paper.target
    title = (
        f"{arguments.model}, {arguments.split}: rounds to {target:.0%}; in the paper"
        f" {paper.rounds} (table {paper.table})"
    )
    text = title + "\n\n" + markdown(["rate", "rounds", "best accuracy", "wall time"], rows)
    best, rates = _best(tried), [one.rate for one in tried]
    if best is not None and len(rates) > 1 and best.rate in (min(rates), max(rates)):
        text += "\n\nThe best rate is at the edge of the grid: a rate beyond it may be better."
    return text


def _say_rounds(one: _Tried) -> str:
    return f"{one.rounds:.1f}" if one.rounds is not None else f"more than {one.rounds_run}"


def _result(
    arguments: argparse.Namespace, paper: _Paper, tried: Sequence[_Tried]
) -> dict[str, Any]:
    best = _best(tried)
    return {
        "experiment": "mcmahan",
        "model": arguments.model,
        "split": arguments.split,
        "target": arguments.target or paper.target,
        "seed": arguments.seed,
        "paper_rounds": paper.rounds,
        "rounds": None if best is None or best.rounds is None else round(best.rounds, 1),
        "rate": None if best is None else best.rate,
        "rates": {
            f"{one.rate:g}": {
                "rounds": None if one.rounds is None else round(one.rounds, 1),
                "rounds_run": one.rounds_run,
                "best_accuracy": one.best,
                "wall_s": one.played.wall_s,
                "run": str(one.played.folder),
            }
            for one in tried
        },
    }


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the four files of MNIST"
    )
    parser.add_argument("--model", choices=["2nn", "cnn"], default="2nn")
    parser.add_argument("--split", choices=sorted(_SPLITS), default="iid")
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=_RATES,
        metavar="RATE",
        help="learning rates, in the order in which they are tried (default:"
        f" {' '.join(map(str, _RATES))})",
    )
    parser.add_argument("--seed", type=int, default=1, help="of split, model, choice and batches")
    parser.add_argument("--rounds", type=int, help="at most (default: twice the paper's)")
    parser.add_argument("--target", type=float, help="another accuracy than the paper's")
    add_running_arguments(parser, "mcmahan")
    return parser.parse_args()


if __name__ == "__main__":
    main()

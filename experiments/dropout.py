"""What do people who drop out cost a federation? And what becomes of those who are seldom online?

Two experiments, on phones and watches (34 devices of 17 people; the data comes along) and on HAR
(21 people with a phone at the waist; --har says where its data is). Both are judged on other
people, who never train.

  dropout       accuracy, and the fleet's time to 0.90, against the share of clients that vanish in
                mid-round: 0 to 70%, with over-selection (learned) and without, for each way with
                late answers. How dropout is made: experiments/lost_answers.py
  availability  recall of each activity where people's hours depend on what they do, and where they
                do not. Needs --har. How: experiments/seldom_online.py

On one core a run takes 20 s on the phones and watches and 8 s on HAR, one of availability 13 s.
With three seeds everything is 192 runs, 40 minutes. A run that was made is not made again: an
interrupted experiment is gone on with by the same command. What came of it is in
docs/experiments.md.

  python experiments/dropout.py --har path/to/har
  python experiments/dropout.py --tasks phonewatch --dropouts 0 0.5 --late discard weigh --seeds 1

Prints tables, draws pictures in the folder --runs, and prints the result as JSON on the last line.
The run folders can be looked at with `fedmqtt report`.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import lost_answers, pictures, program, seldom_online
from experiments.cells import Bars, Cell, Played, add_running_arguments, bars, play_whole
from experiments.lost_answers import OVER_SELECTION, TARGET
from experiments.people import Task, tasks
from experiments.tables import markdown
from learning_tasks.har import CLASS_NAMES

PARTS = ("dropout", "availability")
LATE = ("discard", "weigh", "buffer")
DROPOUTS = (0.0, 0.1, 0.3, 0.5, 0.7)


def main() -> None:
    arguments = _parse()
    result: dict[str, Any] = {}
    known = tasks(arguments.har)
    with program.resumable("dropout.py"):
        if "dropout" in arguments.parts:
            result["dropout"] = _dropout(arguments, known)
        if "availability" in arguments.parts and "har" in known:
            result["availability"] = _availability(arguments, known["har"])
    program.print_result("dropout", **result)


def _dropout(arguments: argparse.Namespace, known: dict[str, Task]) -> list[dict[str, Any]]:
    choices = lost_answers.choices(
        [name for name in arguments.tasks if name in known],
        arguments.dropouts,
        arguments.over_selection,
        arguments.late,
    )
    with bars(len(choices) * len(arguments.seeds)) as bar:
        outcomes = [
            lost_answers.outcome(one, _play_all(cells, arguments, bar))
            for one in choices
            for cells in [list(lost_answers.cells(one, known[one.task], arguments.seeds))]
        ]
    print(_dropout_table(outcomes))
    pictures.draw_lost_answers(outcomes, arguments.runs / "dropout.png")
    return [asdict(one) for one in outcomes]


def _dropout_table(outcomes: list[lost_answers.Outcome]) -> str:
    rows = [
        [
            one.choice.task,
            f"{one.choice.dropout:.0%}",
            f"{one.lost:.0%}",
            one.choice.over_selection,
            "any" if one.choice.has_none_late else one.choice.late,
            f"{one.accuracy:.3f}",
            f"{one.hours:.2f} h" if one.hours is not None else "not reached",
            f"{one.round_s:.0f} s",
            f"{one.late_counted:.0f}",
        ]
        for one in sorted(outcomes, key=lambda one: one.choice)
    ]
    head = ["task", "dropout", "lost", "over-selection", "late", "accuracy", f"to {TARGET:.2f}"]
    return markdown([*head, "a round", "late answers used"], rows) + "\n"


def _availability(arguments: argparse.Namespace, har: Task) -> list[dict[str, Any]]:
    choices = seldom_online.choices(arguments.weather)
    with bars(len(choices) * len(arguments.seeds)) as bar:
        outcomes = [
            seldom_online.outcome(one, _play_all(cells, arguments, bar))
            for one in choices
            for cells in [list(seldom_online.cells(one, har, arguments.seeds))]
        ]
    print(_availability_table(outcomes))
    out = arguments.runs / "availability.png"
    pictures.draw_seldom_online(outcomes, CLASS_NAMES, out)
    return [asdict(one) for one in outcomes]


def _availability_table(outcomes: list[seldom_online.Outcome]) -> str:
    rows = []
    for one in outcomes:
        follows = "data" if one.choice.follows_data else "chance"
        first = [one.choice.weather, one.choice.split, follows]
        rows.append([*first, "online", "", *(f"{value:.0%}" for value in one.online)])
        recalls = [f"{value:.2f}" for value in one.recall]
        rows.append([*first, "recall", f"{one.accuracy:.3f}", *recalls])
        rows.append([*first, "worst recall", "", *(f"{value:.2f}" for value in one.worst)])
    head = ["weather", "clients", "rank by", "", "accuracy", *CLASS_NAMES]
    return markdown(head, rows) + "\n"


def _play_all(cells: list[Cell], arguments: argparse.Namespace, bar: Bars) -> list[Played]:
    return [play_whole(cell, arguments, bar) for cell in cells]


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "har")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--tasks", nargs="+", choices=["phonewatch", "har"], default=["phonewatch", "har"]
    )
    parser.add_argument("--dropouts", nargs="+", type=_share, default=DROPOUTS, metavar="SHARE")
    parser.add_argument(
        "--over-selection", nargs="+", choices=OVER_SELECTION, default=list(OVER_SELECTION)
    )
    parser.add_argument("--late", nargs="+", choices=LATE, default=LATE)
    parser.add_argument(
        "--weather",
        nargs="+",
        choices=seldom_online.WEATHER,
        default=list(seldom_online.WEATHER),
        help="of availability",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add_running_arguments(parser, "dropout")
    arguments = parser.parse_args()
    if arguments.har is None and arguments.tasks == ["har"] and "dropout" in arguments.parts:
        parser.error("--tasks har needs --har, the folder with its data")
    if arguments.har is None and arguments.parts == ["availability"]:
        parser.error("--parts availability needs --har, the folder with its data")
    return arguments


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to below 1")
    return share


if __name__ == "__main__":
    main()

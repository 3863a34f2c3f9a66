"""How few bytes must cross where nobody may read an answer? Accuracy by bits and share, masked.

HAR by person (--har), phones and watches (the data comes along), and MNIST in two shards for each
client (--mnist), with ten answers a round; or with a hundred (--answers 100): MNIST among 300
clients, HAR among 200 in two shards each. Nobody leaves; all is judged on people who never train,
or on test digits. `full` is float32 that anybody can read. All others are masked: `aggregation =
"keyholders"`, in a simulated fleet, whose numbers and bytes are those of real masks. They are
written as

  20           bits of a value, all numbers, not rotated
  4@0.25       4 bits, rotated, on a random quarter of the numbers, ranges by block
  4@0.25:fixed the same, with one range for all, the `change_max` that --change-max gives

  an answer    bytes of a message with its seals and signatures, mean over the run: all that clients
               sent, by answers
  accuracy     mean of the last ten models that were measured, over the seeds; and the difference to
               `full` with its standard error, each seed beside the same seed
  to target    megabytes that all clients sent until the mean accuracy of five models in a row was
               that of `full` at its end, less half a point; and how many times fewer than `full`

A run takes 10 to 60 s of a core. A run that was made is not made again: an interrupted experiment
is gone on with by the same command. What came of it is in docs/masked-rounds.md.

  python experiments/masked_bytes.py --har path/to/har --mnist path/to/mnist
  python experiments/masked_bytes.py --tasks phonewatch --methods 4@0.25 --seeds 1

Prints a table, and the result as JSON on the last line.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import program
from experiments.bytes import LATEST, SLACK, SMOOTHED, TWO_SHARDS, standard_error
from experiments.cells import FLEETS, Bars, Played, add_running_arguments, bars, play_whole
from experiments.curves import by_uplink, crossing, latest, mean_if_all, smooth
from experiments.people import Task, fleet_of, tasks
from experiments.tables import markdown, plus_minus

TASKS = ("phonewatch", "har", "mnist")
METHODS = (
    "20",
    "4@0.25",
    "4@0.25:fixed",
    "4@0.125",
    "3@0.16",
    "2@0.2",
    "2@0.16",
    "2@0.1",
)
_METHOD = re.compile(r"(?P<bits>\d+)(@(?P<share>[\d.]+)(?P<fixed>:fixed)?)?")


@dataclass(frozen=True, slots=True)
class Outcome:
    task: str
    answers: int
    """A round."""
    method: str
    answer_bytes: float
    times_fewer: float
    """Than those of `full`."""
    accuracy: float
    difference: float
    """To `full`, mean over the seeds."""
    difference_error: float | None
    """Its standard error; None with one seed."""
    target_mb: float | None
    """Mean over the seeds; None where not all reached it."""
    seeds: int


def main() -> None:
    arguments = _parse()
    known = _tasks(arguments)
    names = [name for name in arguments.tasks if name in known]
    outcomes: list[Outcome] = []
    count = len(names) * len(arguments.methods) * len(arguments.seeds)
    with program.resumable("masked_bytes.py"), bars(count) as bar:
        for name in names:
            outcomes += _of_task(name, known[name], arguments, bar)
    print(_table(outcomes))
    program.print_result("masked_bytes", methods=list(map(asdict, outcomes)))


def _tasks(arguments: argparse.Namespace) -> dict[str, Task]:
    """By name; only those of which there is data, and people enough."""
    is_crowd = arguments.answers > 10
    found = tasks(arguments.har)
    if is_crowd:
        # There are 34 devices.
        del found["phonewatch"]
        if "har" in found:
            people = ("clients=200", "data.split=shards")
            found["har"] = Task(found["har"].data, (*found["har"].sets, *people))
    if arguments.mnist is not None:
        clients = ("clients=300", "federation.rounds.clients_min=300") if is_crowd else ()
        data, fleet = arguments.mnist.resolve(), FLEETS / "mnist.toml"
        found["mnist"] = Task(data, (*TWO_SHARDS, *clients), fleet)
    return found


def _of_task(name: str, task: Task, arguments: argparse.Namespace, bar: Bars) -> list[Outcome]:
    played = {
        method: [_play(name, task, method, seed, arguments, bar) for seed in arguments.seeds]
        for method in arguments.methods
    }
    full = played["full"]
    return [_outcome(name, arguments.answers, one, played[one], full) for one in played]


def _play(
    name: str, task: Task, method: str, seed: int, arguments: argparse.Namespace, bar: Bars
) -> Played:
    count = arguments.answers
    sets = ["connectivity.kind=always", *_sets(method, arguments.change_max)]
    sets += [f"federation.rounds.{key}={count}" for key in ("cohort", "quorum")]
    if arguments.rounds:
        sets.append(f"federation.rounds.count={arguments.rounds}")
    plain = re.sub(r"[^a-z0-9.]+", "-", method)
    cell = fleet_of(task, f"{name}-{count}-{plain}-seed-{seed}", seed, sets)
    return play_whole(cell, arguments, bar)


def _sets(method: str, change_max: float) -> list[str]:
    if method == "full":
        return []
    read = _METHOD.fullmatch(method)
    assert read is not None
    sets = {"aggregation": "keyholders", "value_bits": read["bits"]}
    if read["share"]:
        sets |= {"rotate": "true", "share": read["share"]}
    if read["fixed"]:
        sets |= {"ranges": "fixed", "change_max": f"{change_max:g}"}
    return [f"federation.privacy.{key}={value}" for key, value in sets.items()]


def _outcome(
    task: str, answers: int, method: str, played: Sequence[Played], full: Sequence[Played]
) -> Outcome:
    differences = [_latest(one) - _latest(other) for one, other in zip(played, full, strict=True)]
    target = mean(map(_latest, full)) - SLACK
    reached = mean_if_all([_reached(one, target) for one in played])
    return Outcome(
        task=task,
        answers=answers,
        method=method,
        answer_bytes=_answer_bytes(played),
        times_fewer=_answer_bytes(full) / _answer_bytes(played),
        accuracy=mean(map(_latest, played)),
        difference=mean(differences),
        difference_error=standard_error(differences),
        target_mb=None if reached is None else reached / 1e6,
        seeds=len(played),
    )


def _latest(one: Played) -> float:
    return latest(one.records, LATEST)


def _reached(one: Played, target: float) -> float | None:
    curve = by_uplink(one.records, [mark.bytes_up for mark in one.page.rounds])
    return crossing(smooth(curve, SMOOTHED), target)


def _answer_bytes(played: Sequence[Played]) -> float:
    answers = sum(len(record.answered) for one in played for record in one.rounds)
    return sum(one.page.rounds[-1].bytes_up for one in played) / answers


def _table(outcomes: Sequence[Outcome]) -> str:
    full = {one.task: one for one in outcomes if one.method == "full"}
    rows = []
    for one in outcomes:
        row = [one.task, f"{one.answers}", one.method]
        row += [f"{one.answer_bytes:,.0f}", f"{one.times_fewer:.1f}", f"{one.accuracy:.3f}"]
        difference = f"{100 * one.difference:+.1f}{plus_minus(one.difference_error)}"
        row.append("" if one.method == "full" else difference)
        row += _target(one.target_mb, full[one.task].target_mb)
        rows.append(row)
    head = ["task", "answers a round", "method", "bytes an answer", "times fewer", "accuracy"]
    head += ["to full, points", "MB to target", "times fewer"]
    return markdown(head, rows) + "\n"


def _target(mb: float | None, plain_mb: float | None) -> list[str]:
    if mb is None:
        return ["not reached", ""]
    return [f"{mb:.3g}", "" if plain_mb is None else f"{plain_mb / mb:.3g}"]


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "har", "mnist")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of which there is data"
    )
    parser.add_argument(
        "--methods", nargs="+", type=_method, default=list(METHODS), help="`full` is run too"
    )
    parser.add_argument("--answers", type=int, choices=(10, 100), default=10, help="a round")
    parser.add_argument(
        "--change-max", type=float, default=0.05, help="of methods with one range for all"
    )
    parser.add_argument("--rounds", type=int, default=0, help="a run (default: 40, 50, 60)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add_running_arguments(parser, "masked-bytes")
    arguments = parser.parse_args()
    for task in ("har", "mnist"):
        if getattr(arguments, task) is None and arguments.tasks == [task]:
            parser.error(f"--tasks {task} needs --{task}, the folder with its data")
    arguments.methods = ["full", *(one for one in arguments.methods if one != "full")]
    return arguments


def _method(text: str) -> str:
    if text != "full" and _METHOD.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no method: bits of a value, say 20, or bits and a share, say 4@0.25"
        )
    return text


if __name__ == "__main__":
    main()

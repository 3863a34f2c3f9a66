"""How few bytes must cross, up and down? Each codec's accuracy, and its bytes to that of `full`.

HAR by person (21 people with a phone at the waist; --har says where its data is), phones and
watches (34 devices of 17 people; the data comes along), and MNIST in two shards for each of 100
clients (two digits, mostly; --mnist). Nobody leaves; a cohort is five, and ten of MNIST's; all is
judged on people who never train, or on test digits. For each codec:

  an answer    bytes of an update's numbers, and how many times fewer than those of `full`
  accuracy     mean of the last ten models that were measured, over the seeds; and the difference to
               `full` with its standard error, each seed beside the same seed
  to target    megabytes that all clients sent, and that they were sent, until the mean accuracy of
               five models in a row was that of `full` at its end, less half a point; as many times
               fewer than `full` needed

A codec stands for updates alone, two with a slash between for updates and for models on their way
down: full/int4.

A run on HAR takes 8 s on one core, one on phones and watches or on MNIST 20 s. A run that was made
is not made again: an interrupted experiment is gone on with by the same command. What came of it
is in docs/codecs.md.

  python experiments/bytes.py --har path/to/har --mnist path/to/mnist
  python experiments/bytes.py --tasks phonewatch --codecs full eden --seeds 1

Prints a table, and the result as JSON on the last line. The run folders can be looked at with
`fedmqtt report`.
"""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator.models import checkpoint, downlink
from experiments import program
from experiments.cells import FLEETS, Bars, Played, add_running_arguments, bars, play_whole
from experiments.curves import Curve, by_uplink, crossing, latest, mean_if_all, smooth
from experiments.people import Task, fleet_of, tasks
from experiments.tables import markdown, plus_minus
from fedmqtt import codec_chain
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Layout

TASKS = ("phonewatch", "har", "mnist")
CODECS = (
    "full",
    "bfloat16",
    "int8",
    "int4",
    "eden",
    "part(share=0.5)+eden",
    "part(share=0.25)+eden",
    "part(share=0.1)+eden",
    "part(share=0.25)+int8",
    "part(share=0.25)+int4",
    "topk(share=0.05)+int8",
    "topk(share=0.01)+full",
    "topk(share=0.01)+int8",
    "lowrank(rank=1)+int8",
    "lowrank(rank=2)+int8",
    "lowrank(rank=4)+int8",
    "lowrank(rank=4)+int4",
    "lowrank(rank=8)+int4",
    "full/int8",
    "full/int4",
    "full/eden",
    "full/part(share=0.25)+eden",
    "full/lowrank(rank=4)+int4",
    "full/lowrank(rank=8)+int4",
    "eden/eden",
)
TWO_SHARDS = (
    "data.split=shards",
    "federation.rounds.count=60",
    "federation.training.batch_size=20",
    # Measuring costs as much as training here.
    "federation.evaluation.every=2",
)
LATEST = 10
SMOOTHED = 5
SLACK = 0.005
"""How far below the accuracy of `full` the target is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    task: str
    codec: str
    answer_bytes: int
    accuracy: float
    difference: float
    """To `full`, mean over the seeds."""
    difference_error: float | None
    """Its standard error; None with one seed."""
    target_mb: float | None
    """Up, mean over the seeds; None where not all reached it."""
    target_down_mb: float | None
    seeds: int


def main() -> None:
    arguments = _parse()
    known = tasks(arguments.har)
    if arguments.mnist is not None:
        known["mnist"] = Task(arguments.mnist.resolve(), TWO_SHARDS, FLEETS / "mnist.toml")
    names = [name for name in arguments.tasks if name in known]
    outcomes: list[Outcome] = []
    count = len(names) * len(arguments.codecs) * len(arguments.seeds)
    with program.resumable("bytes.py"), bars(count) as bar:
        for name in names:
            outcomes += _of_task(name, known[name], arguments, bar)
    print(_table(outcomes))
    program.print_result("bytes", codecs=list(map(asdict, outcomes)))


def _of_task(name: str, task: Task, arguments: argparse.Namespace, bar: Bars) -> list[Outcome]:
    played = {
        codec: [_play(name, task, codec, seed, arguments, bar) for seed in arguments.seeds]
        for codec in arguments.codecs
    }
    full = played["full"]
    layout, _ = checkpoint.load(full[0].folder / "initial_model.safetensors")
    return [_outcome(name, codec, layout, played[codec], full) for codec in played]


def _play(
    name: str, task: Task, codec: str, seed: int, arguments: argparse.Namespace, bar: Bars
) -> Played:
    plain = re.sub(r"[^a-z0-9.]+", "-", codec).strip("-")
    up, down = _ways(codec)
    sets = ["connectivity.kind=always", f"federation.codec={up}"]
    if down != "full":
        sets.append(f"federation.downlink_codec={down}")
    if arguments.rounds:
        sets.append(f"federation.rounds.count={arguments.rounds}")
    cell = fleet_of(task, f"{name}-{plain}-seed-{seed}", seed, sets)
    return play_whole(cell, arguments, bar)


def _outcome(
    task: str, codec: str, layout: Layout, played: Sequence[Played], full: Sequence[Played]
) -> Outcome:
    up, _ = _ways(codec)
    chain = codec_chain.read(up)
    differences = [_latest(one) - _latest(other) for one, other in zip(played, full, strict=True)]
    target = mean(map(_latest, full)) - SLACK
    uplinks = [crossing(smooth(_by_uplink(one), SMOOTHED), target) for one in played]
    downlinks = [crossing(smooth(_by_downlink(one), SMOOTHED), target) for one in played]
    return Outcome(
        task=task,
        codec=codec,
        answer_bytes=chain.size_bytes(layout.size, layout.shapes),
        accuracy=mean(map(_latest, played)),
        difference=mean(differences),
        difference_error=standard_error(differences),
        target_mb=_megabytes(uplinks),
        target_down_mb=_megabytes(downlinks),
        seeds=len(played),
    )


def standard_error(differences: Sequence[float]) -> float | None:
    """Of their mean; None of one."""
    if len(differences) < 2:
        return None
    return stdev(differences) / math.sqrt(len(differences))


def _latest(one: Played) -> float:
    return latest(one.records, LATEST)


def _by_uplink(one: Played) -> Curve:
    return by_uplink(one.records, [mark.bytes_up for mark in one.page.rounds])


def _by_downlink(one: Played) -> Curve:
    return by_uplink(one.records, [mark.bytes_down for mark in one.page.rounds])


def _megabytes(crossings: Sequence[float | None]) -> float | None:
    reached = mean_if_all(crossings)
    return None if reached is None else reached / 1e6


def _ways(codec: str) -> tuple[str, str]:
    """Of updates, and of models."""
    up, _, down = codec.partition("/")
    return up, down or "full"


def _table(outcomes: Sequence[Outcome]) -> str:
    full = {one.task: one for one in outcomes if one.codec == "full"}
    rows = []
    for one in outcomes:
        plain = full[one.task]
        row = [one.task, one.codec, f"{one.answer_bytes:,}"]
        row.append(f"{plain.answer_bytes / one.answer_bytes:.1f}")
        row.append(f"{one.accuracy:.3f}")
        difference = f"{100 * one.difference:+.1f}{plus_minus(one.difference_error)}"
        row.append("" if one is plain else difference)
        row += _target(one.target_mb, plain.target_mb)
        row += _target(one.target_down_mb, plain.target_down_mb)
        rows.append(row)
    head = ["task", "codec", "an answer", "times fewer", "accuracy", "to full, points"]
    head += ["MB up to target", "times fewer", "MB down to target", "times fewer"]
    return markdown(head, rows) + "\n"


def _target(mb: float | None, plain_mb: float | None) -> list[str]:
    if mb is None:
        return ["not reached", ""]
    times = "" if plain_mb is None else f"{plain_mb / mb:.3g}"
    return [f"{mb:.3g}", times]


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "har", "mnist")
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of which there is data"
    )
    parser.add_argument(
        "--codecs", nargs="+", type=_codec, default=list(CODECS), help="`full` is run too"
    )
    parser.add_argument("--rounds", type=int, default=0, help="a run (default: 40, 50, 60)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add_running_arguments(parser, "bytes")
    arguments = parser.parse_args()
    for task in ("har", "mnist"):
        if getattr(arguments, task) is None and arguments.tasks == [task]:
            parser.error(f"--tasks {task} needs --{task}, the folder with its data")
    if "full" not in arguments.codecs:
        arguments.codecs = ["full", *arguments.codecs]
    return arguments


def _codec(text: str) -> str:
    up, down = _ways(text)
    try:
        chain = downlink.read(down)
        up = codec_chain.read(up).text
    except SettingsError as bad:
        raise argparse.ArgumentTypeError(str(bad)) from bad
    return up if chain is None else f"{up}/{chain.text}"


if __name__ == "__main__":
    main()

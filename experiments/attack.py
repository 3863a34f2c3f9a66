"""What do hostile clients cost, by strategy? With 20% and 30% of the clients hostile.

Fleets in the lab, where nobody is ever away:

  har      21 people with a phone at the waist, all of them in each round, judged on nine others
  iid      small MNIST: 50 clients with 240 digits each, dealt at random; all of them in each round
  shards   the same in two shards for each client (two digits, mostly)
  drawn    shards, where 20 of the 50 are drawn for each round

and what the hostile ones send: see experiments/attacks.py. A strategy is told the true share (`f`).
A run's accuracy is the mean of the last five models that were measured. On one core a run on HAR
takes 6 s, one on MNIST 2 to 20 s; a table of `iid` takes 4 minutes, one of `shards` 15. A run that
was made is not made again: an interrupted experiment is gone on with by the same command. What
came of it is in docs/strategies.md.

  python experiments/attack.py --har path/to/har --mnist path/to/mnist
  python experiments/attack.py --mnist path/to/mnist --fleets iid --strategies "norm clipping"

Prints a table for each fleet and share, and the result as JSON on the last line.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator.models import checkpoint
from experiments import program
from experiments.attacks import ATTACKS, LABELS, AttackedTrainers
from experiments.cells import FLEETS
from experiments.curves import latest, mean_if_all
from experiments.tables import markdown
from fedmqtt.messages import Purpose
from fedmqtt.topics import ClientId
from fleet_sim import fleet as fleets
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab, Lesson
from fleet_sim.split import holdings, make_split
from fleet_sim.training.trainers import Trainers
from learning_tasks.initial_model import write_initial_model

STRATEGIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "mean": ("fedavg", ()),
    "median": ("median", ()),
    "trimmed mean": ("trimmed_mean", ()),
    "Krum": ("krum", ()),
    "Multi-Krum": ("multi_krum", ()),
    "Bulyan": ("bulyan", ()),
    "geometric median": ("geometric_median", ()),
    "centred clipping": ("centered_clipping", ()),
    "norm clipping": ("norm_clipping", ()),
    "spectral filter": ("spectral_filter", ()),
    "NNM + trimmed mean": ("trimmed_mean", ("nnm",)),
    "NNM + geometric median": ("geometric_median", ("nnm",)),
    "NNM + centred clipping": ("centered_clipping", ("nnm",)),
    "NNM + norm clipping": ("norm_clipping", ("nnm",)),
    "bucketing + geometric median": ("geometric_median", ("bucketing",)),
    "bucketing + centred clipping": ("centered_clipping", ("bucketing",)),
    "bucketing + spectral filter": ("spectral_filter", ("bucketing",)),
}
"""What people call it: the strategy, and what goes before."""

LATEST = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A fleet and its data."""

    data: str
    """The argument that says where it lies."""
    task: str
    mislabelled: str
    sets: tuple[str, ...]
    rounds: int


def _digits(split: str, rounds: int, *sets: str) -> Place:
    return Place(
        "mnist",
        "experiments.small_mnist",
        "experiments.mislabelled_small_mnist",
        (
            "federation.rounds.clients_min=50",
            "clients=50",
            f"data.split={split}",
            *sets,
        ),
        rounds,
    )


_ALL_OF_50 = ("federation.rounds.cohort=50", "federation.rounds.quorum=50")
_SOME_OF_50 = ("federation.rounds.cohort=20", "federation.rounds.quorum=20")
_FOUR_STEPS = (
    # The less clients do, the less those with other digits drift apart.
    "federation.training.batch_size=60",
    "federation.training.learning_rate=0.6",
    "federation.evaluation.every=5",
)

PLACES = {
    "har": Place(
        "har",
        "learning_tasks.har",
        "experiments.mislabelled_har",
        (
            "federation.training.epochs=2",
            "federation.training.batch_size=16",
            "federation.training.learning_rate=0.03",
            "federation.rounds.cohort=21",
            "federation.rounds.quorum=21",
            "federation.rounds.clients_min=21",
            "clients=0",
            "data.split=owners",
        ),
        20,
    ),
    "iid": _digits("iid", 100, *_ALL_OF_50, *_FOUR_STEPS),
    "shards": _digits("shards", 150, *_ALL_OF_50, *_FOUR_STEPS),
    "drawn": _digits("shards", 150, *_SOME_OF_50, *_FOUR_STEPS),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    fleet: str
    strategy: str
    attack: str
    share: float
    accuracy: float | None
    """None where the strategy makes no model against so many."""


class _Done(Struct, frozen=True, kw_only=True):
    """A run's file, in the folder of runs."""

    settings: list[str]
    """All that decides what comes of it."""
    accuracy: float | None


def main() -> None:
    arguments = _parse()
    outcomes: list[Outcome] = []
    fleets_there = [one for one in arguments.fleets if getattr(arguments, PLACES[one].data)]
    with program.resumable("attack.py"):
        arguments.runs.mkdir(parents=True, exist_ok=True)
        for name in fleets_there:
            for strategy in arguments.strategies:
                for attack, share in _attacks(arguments):
                    one = _outcome(name, strategy, attack, share, arguments)
                    outcomes.append(one)
                    said = "no model" if one.accuracy is None else f"{one.accuracy:.3f}"
                    sys.stderr.write(f"{name} {strategy} {attack} {share:.0%}: {said}\n")
    for name in fleets_there:
        for share in arguments.shares:
            print(f"{name}, {share:.0%} hostile\n\n{_table(outcomes, name, share)}\n")
    program.print_result("attack", outcomes=list(map(asdict, outcomes)))


def _attacks(arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    for share in arguments.shares:
        # A strategy that is told of more gives up more, also where nobody attacks.
        yield "none", share
        yield from ((attack, share) for attack in arguments.attacks)


def _outcome(
    name: str, strategy: str, attack: str, share: float, arguments: argparse.Namespace
) -> Outcome:
    place = PLACES[name]
    data, rounds = getattr(arguments, place.data).resolve(), arguments.rounds or place.rounds
    found = [
        _accuracy(name, data, strategy, attack, share, seed, rounds, arguments.runs)
        for seed in arguments.seeds
    ]
    return Outcome(name, strategy, attack, share, mean_if_all(found))


def _accuracy(
    name: str,
    data: Path,
    strategy: str,
    attack: str,
    share: float,
    seed: int,
    rounds: int,
    runs: Path,
) -> float | None:
    place = PLACES[name]
    settings = [*_sets(place, data, strategy, share, seed, rounds), attack]
    plain = re.sub(r"[^a-z]+", "-", strategy.lower())
    file = runs / f"{name}-{plain}-{attack}-{share:g}-seed-{seed}.json"
    if file.exists():
        done = msgspec.json.decode(file.read_bytes(), type=_Done)
        if done.settings == settings:
            return done.accuracy
    fleet = fleets.read(FLEETS / "mnist.toml", settings[:-1])
    with tempfile.TemporaryDirectory(prefix="fedmqtt-attack-") as folder:
        lab = _played(fleet, place, Path(folder), attack, share)
    accuracy = None
    if any(record.outcome == "averaged" for record in lab.records):
        accuracy = latest(lab.records, LATEST)
    file.write_bytes(msgspec.json.encode(_Done(settings=settings, accuracy=accuracy)))
    return accuracy


def _sets(
    place: Place, data: Path, strategy: str, share: float, seed: int, rounds: int
) -> list[str]:
    aggregation, before = STRATEGIES[strategy]
    sets = [f"federation.task={place.task}", *place.sets, f"data.path={json.dumps(str(data))}"]
    sets += [f"federation.aggregation={aggregation}", f"federation.rounds.count={rounds}"]
    sets += [f"federation.seed={seed}", f"seed={seed}"]
    if aggregation != "fedavg":
        sets.append(f"federation.aggregation_settings.f={share}")
    if before:
        sets.append(f"federation.aggregation_settings.before={json.dumps(before)}")
    return sets


def _played(fleet: Fleet, place: Place, folder: Path, attack: str, share: float) -> Lab:
    federation = fleet.federation
    for task, where in ((place.task, "data"), (place.mislabelled, "mislabelled")):
        (folder / where).mkdir()
        made = fleet.config.data
        count, seed = fleet.config.clients, fleet.config.seed
        make_split(
            task, fleet.data_dir, made.split, made.settings, count, seed, 0.0, folder / where
        )
    write_initial_model(federation.task, federation.seed, folder / "initial.safetensors")
    layout, flat = checkpoint.load(folder / "initial.safetensors")
    held = holdings(folder / "data")
    samples = {one.client: one.samples for one in held}
    names = sorted(samples)
    bad = frozenset(Random(f"{fleet.config.seed}/hostile").sample(names, int(share * len(names))))
    with (
        Trainers(place.mislabelled, folder / "mislabelled", processes=0) as mislabelled,
        AttackedTrainers(
            place.task, folder / "data", attack, bad, mislabelled if attack == LABELS else None
        ) as trainers,
    ):
        lesson = Lesson(layout=layout, flat=flat, trainers=trainers)

        def count_of(client: ClientId, purpose: Purpose) -> int:
            return samples.get(client, 0) if purpose == "train" else 0

        lab = Lab(fleet, fleet.crew([one.client for one in held]), count_of, lesson)
        lab.run()
    return lab


def _table(outcomes: list[Outcome], name: str, share: float) -> str:
    found = {
        (one.strategy, one.attack): one.accuracy
        for one in outcomes
        if one.fleet == name and one.share == share
    }
    columns = list(dict.fromkeys(attack for _, attack in found))
    rows = []
    for strategy in dict.fromkeys(strategy for strategy, _ in found):
        cells = [found.get((strategy, attack)) for attack in columns]
        known = [cell for cell in cells[1:] if cell is not None]
        # A run that makes no model against so many has no worst.
        cells.append(min(known) if len(known) == len(cells) - 1 else None)
        rows.append([strategy, *("–" if cell is None else f"{100 * cell:.1f}" for cell in cells)])
    return markdown(["accuracy, %", *columns, "worst"], rows)


def _parse() -> Any:
    parser = program.parser(__doc__, "har", "mnist")
    parser.add_argument("--fleets", nargs="+", choices=list(PLACES), default=list(PLACES))
    strategies = list(STRATEGIES)
    parser.add_argument("--strategies", nargs="+", choices=strategies, default=strategies)
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.2, 0.3])
    parser.add_argument("--rounds", type=int, default=0, help="instead of the fleet's own count")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "attack")
    arguments = parser.parse_args()
    if not any(getattr(arguments, PLACES[one].data) for one in arguments.fleets):
        parser.error("say where data is: --har, --mnist")
    return arguments


if __name__ == "__main__":
    main()

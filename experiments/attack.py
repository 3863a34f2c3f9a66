"""What do hostile clients cost, by strategy? With 20% and 30% of the clients hostile.

Two fleets in the lab, where nobody is ever away:

  har      21 people with a phone at the waist, all of them in each round, judged on nine others
  mnist    50 clients with the digits of two shards each (two classes, mostly), 20 of them a round

and what the hostile ones send: see experiments/attacks.py. A strategy is told the true share (`f`).
A run's accuracy is the mean of its last five models. On one core a run on HAR takes 6 s, one on
MNIST a minute and a half.

  python experiments/attack.py --har path/to/har
  python experiments/attack.py --mnist path/to/mnist --strategies norm_clipping --rounds 100

Prints a table for each fleet and share, and the result as JSON on the last line.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator import checkpoint
from experiments.attacks import ATTACKS, LABELS, AttackedTrainers
from experiments.curves import by_round
from experiments.tables import in_words, markdown, rounded
from fedmqtt.messages import Purpose
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId
from fleet_sim import fleet as fleets
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab, Lesson
from fleet_sim.split import holdings, make_split
from fleet_sim.training.trainers import Trainers
from learning_tasks.initial_model import write_initial_model
from learning_tasks.seam import TaskError

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
    "NNM + trimmed mean": ("trimmed_mean", ("nnm",)),
    "NNM + geometric median": ("geometric_median", ("nnm",)),
    "NNM + norm clipping": ("norm_clipping", ("nnm",)),
    "bucketing + geometric median": ("geometric_median", ("bucketing",)),
    "bucketing + centred clipping": ("centered_clipping", ("bucketing",)),
}
"""What people call it: the strategy, and what goes before."""

LATEST = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A fleet and its data."""

    task: str
    mislabelled: str
    sets: tuple[str, ...]
    rounds: int


PLACES = {
    "har": Place(
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
    "mnist": Place(
        "learning_tasks.mnist_2nn",
        "experiments.mislabelled_mnist",
        (
            "federation.rounds.cohort=20",
            "federation.rounds.quorum=20",
            "federation.rounds.clients_min=50",
            "clients=50",
            "data.split=shards",
        ),
        100,
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    fleet: str
    strategy: str
    attack: str
    share: float
    accuracy: float | None
    """None where the strategy makes no model against so many."""


def main() -> int:
    arguments = _parse()
    outcomes: list[Outcome] = []
    try:
        for name, data in _places(arguments):
            for strategy in arguments.strategies or STRATEGIES:
                for attack, share in _attacks(arguments.shares):
                    one = _outcome(name, data, strategy, attack, share, arguments)
                    outcomes.append(one)
                    said = "no model" if one.accuracy is None else f"{one.accuracy:.3f}"
                    sys.stderr.write(f"{name} {strategy} {attack} {share:.0%}: {said}\n")
    except (SettingsError, TaskError, OSError) as bad:
        sys.stderr.write(f"attack.py: {in_words(bad)}\n")
        return 2
    for name, _ in _places(arguments):
        for share in arguments.shares:
            print(f"{name}, {share:.0%} hostile\n\n{_table(outcomes, name, share)}\n")
    print(json.dumps(rounded([asdict(one) for one in outcomes])))
    return 0


def _places(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    for name in PLACES:
        if (data := getattr(arguments, name)) is not None:
            yield name, data.resolve()


def _attacks(shares: list[float]) -> Iterator[tuple[str, float]]:
    yield "none", shares[0]
    for share in shares:
        yield from ((attack, share) for attack in ATTACKS)


def _outcome(
    name: str, data: Path, strategy: str, attack: str, share: float, arguments: argparse.Namespace
) -> Outcome:
    found = [
        _accuracy(PLACES[name], data, strategy, attack, share, seed, arguments.rounds)
        for seed in arguments.seeds
    ]
    known = [one for one in found if one is not None]
    return Outcome(name, strategy, attack, share, mean(known) if len(known) == len(found) else None)


def _accuracy(
    place: Place, data: Path, strategy: str, attack: str, share: float, seed: int, rounds: int
) -> float | None:
    fleet = _fleet(place, data, strategy, share, seed, rounds or place.rounds)
    with tempfile.TemporaryDirectory(prefix="fedmqtt-attack-") as folder:
        lab = _played(fleet, place, Path(folder), attack, share)
    if not any(record.outcome == "averaged" for record in lab.records):
        return None
    return mean(accuracy for _, accuracy in by_round(lab.records)[-LATEST:])


def _fleet(place: Place, data: Path, strategy: str, share: float, seed: int, rounds: int) -> Fleet:
    aggregation, before = STRATEGIES[strategy]
    sets = [f"federation.task={place.task}", *place.sets, f"data.path={json.dumps(str(data))}"]
    sets += [f"federation.aggregation={aggregation}", f"federation.rounds.count={rounds}"]
    sets += [f"federation.seed={seed}", f"seed={seed}"]
    if aggregation != "fedavg":
        sets.append(f"federation.aggregation_settings.f={share}")
    if before:
        sets.append(f"federation.aggregation_settings.before={json.dumps(before)}")
    return fleets.read(ROOT / "experiments" / "fleets" / "mnist.toml", sets)


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
        if one.fleet == name and (one.share == share or one.attack == "none")
    }
    columns = ("none", *ATTACKS)
    rows = []
    for strategy in dict.fromkeys(strategy for strategy, _ in found):
        cells = [found.get((strategy, attack)) for attack in columns]
        known = [cell for cell in cells[1:] if cell is not None]
        # A run that makes no model against so many has no worst.
        cells.append(min(known) if len(known) == len(ATTACKS) else None)
        rows.append([strategy, *("–" if cell is None else f"{100 * cell:.1f}" for cell in cells)])
    return markdown(["accuracy, %", *columns, "worst"], rows)


def _parse() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--har", type=Path, help="folder with ucihar_features.npz")
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's four files")
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.2, 0.3])
    parser.add_argument("--rounds", type=int, default=0, help="instead of the fleet's own count")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    arguments = parser.parse_args()
    if arguments.har is None and arguments.mnist is None:
        parser.error("say where data is: --har, --mnist")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

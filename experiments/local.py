"""What clients do locally, under strategies that ask more of them than plain local SGD.

  fair      HAR in shards of two activities: q-FedAvg beside FedAvg. What counts: the accuracy of
            the tenth of clients for which the last model is worst, each on its own held-out data.
  slow      HAR by person on devices of very different speed, with a deadline that many miss:
            FedNova, to which partial work counts, beside FedAvg. The seconds are the fleet's.
  personal  HAR by person, and in shards: layers that stay on the device, and fine-tuning, beside
            one model for all. Each client is judged on its own held-out data.

Prints a table for each, and the result as JSON on the last line. What came of it is in
docs/strategies.md and docs/personalisation.md. A run takes some 10 s on one core; an interrupted
experiment is gone on with.

  python experiments/local.py --har path/to/har
  python experiments/local.py --har path/to/har --parts fair --seeds 1
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from safetensors.numpy import load_file

from experiments import program
from experiments.cells import Bars, Played, add_running_arguments, bars, play_whole
from experiments.people import Task, fleet_of, tasks
from experiments.tables import markdown
from fleet_sim.training.trainers import Trainers
from learning_tasks import split_data
from learning_tasks.seam import Evaluated

SHARDS = ("data.split=shards", "clients=21")
OWN_DATA = (
    "data.evaluate=clients",
    "data.held_out=0.25",
    "federation.evaluation.clients=0",
    # Fine-tuning takes longer than training does, as all clients measure.
    "federation.evaluation.every=5",
)
NOVA = "federation.aggregation=fednova"
FAIR = "federation.aggregation=qfedavg"
HEAD = 'federation.training.personal=["3.*"]'
TUNED = "federation.evaluation.fine_tune_epochs={}"


@dataclass(frozen=True, slots=True)
class Part:
    sets: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]


PERSONAL: dict[str, tuple[str, ...]] = {
    "one model for all": (),
    "fine-tuned, 1 epoch": (TUNED.format(1),),
    "fine-tuned, 5 epochs": (TUNED.format(5),),
    "own last layer": (HEAD,),
    "own last layer, fine-tuned, 1 epoch": (HEAD, TUNED.format(1)),
}
PARTS = {
    "fair": Part(
        (
            *SHARDS,
            *OWN_DATA,
            "federation.rounds.count=150",
            "federation.rounds.cohort=21",
            "federation.rounds.clients_min=21",
            # Few local steps: many make those of q-FedAvg small.
            "federation.training.epochs=1",
            "federation.training.batch_size=64",
            "federation.training.learning_rate=0.1",
        ),
        {
            "fedavg": (),
            "qfedavg, q = 1, rate = 4": (FAIR, "federation.aggregation_settings.rate=4.0"),
            "qfedavg, q = 2, rate = 8": (
                FAIR,
                "federation.aggregation_settings.q=2.0",
                "federation.aggregation_settings.rate=8.0",
            ),
        },
    ),
    "slow": Part(
        (
            *OWN_DATA,
            "federation.rounds.count=40",
            "federation.rounds.deadline_s=40.0",
            "federation.rounds.cohort=10",
            "device.spread=0.8",
        ),
        {
            "fedavg": (),
            "fednova, whole work only": (NOVA, "federation.aggregation_settings.partial=false"),
            "fednova": (NOVA,),
        },
    ),
    "personal-people": Part((*OWN_DATA, "federation.rounds.count=40"), PERSONAL),
    "personal-shards": Part((*SHARDS, *OWN_DATA, "federation.rounds.count=60"), PERSONAL),
}
_LAST = 3
"""Measurements over which accuracies are means, each by all clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one variant, over its seeds."""

    part: str
    variant: str
    accuracy: float
    """Over all clients' held-out samples, as they measured it."""
    accuracy_before: float | None
    """The same before fine-tuning."""
    worst_tenth: float | None
    """Mean accuracy of the clients for which the last model is worst; None where each has its
    own."""
    answers: float
    """A round."""
    seeds: int


def main() -> None:
    arguments = _parse()
    task = tasks(arguments.har)["har"]
    count = sum(len(PARTS[name].variants) for name in arguments.parts)
    outcomes: list[Outcome] = []
    with program.resumable("local.py"), bars(count * len(arguments.seeds)) as bar:
        for name in arguments.parts:
            for variant in PARTS[name].variants:
                outcomes.append(_outcome(name, variant, task, arguments, bar))
    for name in arguments.parts:
        print(f"{name}\n\n{_table([one for one in outcomes if one.part == name])}")
    program.print_result("local", outcomes=list(map(asdict, outcomes)))


def _outcome(
    name: str, variant: str, task: Task, arguments: argparse.Namespace, bar: Bars
) -> Outcome:
    part = PARTS[name]
    sets = (*part.sets, *part.variants[variant])
    place = list(part.variants).index(variant)
    played = []
    for seed in arguments.seeds:
        cell = fleet_of(task, f"{name}-{place}-seed-{seed}", seed, sets)
        played.append(play_whole(cell, arguments, bar, f"{name}, {variant}, seed {seed}"))
    is_shared = not name.startswith("personal")
    return Outcome(
        part=name,
        variant=variant,
        accuracy=mean(_accuracy(one, "accuracy") for one in played),
        accuracy_before=mean(_accuracy(one, "accuracy_before") for one in played)
        if any("fine_tune" in word for word in sets)
        else None,
        worst_tenth=mean(_worst_tenth(one, "learning_tasks.har") for one in played)
        if is_shared
        else None,
        answers=mean(len(record.answered) for one in played for record in one.rounds),
        seeds=len(played),
    )


def _accuracy(played: Played, metric: str) -> float:
    measured = [one.figures for one in played.records if one.figures is not None]
    return mean(figures.metrics[metric] for figures in measured[-_LAST:])


def _worst_tenth(played: Played, task: str) -> float:
    data = played.folder / "data"
    model = load_file(played.folder / "model.safetensors")
    with Trainers(task, data, processes=0) as trainers:
        found = trainers.evaluate(model, split_data.read(data).clients)
    accuracies = sorted(one.metrics["accuracy"] for one in found if isinstance(one, Evaluated))
    return mean(accuracies[: max(1, round(len(accuracies) / 10))])


def _table(outcomes: list[Outcome]) -> str:
    head = ["", "accuracy", "before", "worst tenth", "answers a round"]
    return markdown(
        head,
        [
            [
                one.variant,
                _percent(one.accuracy),
                _percent(one.accuracy_before),
                _percent(one.worst_tenth),
                f"{one.answers:.1f}",
            ]
            for one in outcomes
        ],
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "har", needed=True)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add_running_arguments(parser, "local")
    return parser.parse_args()


if __name__ == "__main__":
    main()

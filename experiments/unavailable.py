"""Which strategy is fair to clients that are seldom there? And what do lost uploads cost?

50 clients with 100 digits of MNIST each: half of them have seen only 0 to 4, half only 5 to 9. Who
is there is drawn anew for each round, ten of them on average:

  alike    everybody with the same chance
  9:1      the second half with a ninth of the first half's chance
  turns    one half for ten rounds, then the other for ten

Accuracy is on 2,000 test digits, mean of the models of the last quarter of the rounds; the worst of
them beside it. Bytes are those of the answers. What clients and coordinator do is the program's own
code (`edge_client/trainer.py`, `coordinator/sums/answers.py`); only time and the network are left
out.

  python experiments/unavailable.py --mnist path/to/mnist
  python experiments/unavailable.py --mnist path/to/mnist --loss 0.2 --methods mifa

With --loss, so many of the answers never arrive: once with memories that are committed by the
receipt, and once by who sends without waiting for one. Prints a table, and JSON on the last line.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import msgspec
import numpy as np
import torch
from torch.utils.data import TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator import local_method
from coordinator.config import FederationConfig
from coordinator.sums.answers import Answers
from edge_client import trainer
from edge_client.training_job import Job
from experiments import program
from experiments.tables import markdown
from fedmqtt import personal, weights
from fedmqtt.messages import Training
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array, Layout
from fleet_sim.kept_memory import KeptMemory
from learning_tasks import mnist_files
from learning_tasks.loading import load_task

TASK = "learning_tasks.mnist_2nn"
CLIENTS, EACH, JUDGED = 50, 100, 2000
COHORT = 10
BLOCK = 10
PATTERNS = ("alike", "9:1", "turns")

METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "fedavg": ("fedavg", {}, "full"),
    "inverse participation": ("inverse_participation", {}, "full"),
    "fedau": ("fedau", {}, "full"),
    "fedvarp": ("fedvarp", {}, "full"),
    "mifa": ("mifa", {}, "full"),
    "mifa + eden": ("mifa", {}, "eden"),
    "fedadam": ("fedadam", {"rate": 0.01}, "full"),
}
"""What people call it: strategy, its settings, codec."""


@dataclass(frozen=True, slots=True)
class Outcome:
    method: str
    pattern: str
    loss: float
    waits: bool
    """Memories are committed by the receipt."""
    accuracy: float
    worst: float
    megabytes: float
    seeds: int


@dataclass(frozen=True, slots=True)
class World:
    """What all runs of one seed have in common."""

    layout: Layout
    initial: Array
    data: dict[ClientId, TensorDataset]
    test: TensorDataset
    first_half: frozenset[ClientId]


@dataclass(slots=True)
class Run:
    """One method's, in one pattern."""

    world: World
    config: FederationConfig
    training: Training
    seed: int
    loss: float
    waits: bool
    memories: dict[ClientId, KeptMemory] = field(default_factory=dict)
    bytes_up: int = 0

    def models(self, pattern: str, count: int) -> Iterator[tuple[int, Array]]:
        """Round and model, after each round in which anybody was there."""
        # The same for all methods.
        chance = Random(f"{self.seed}/{pattern}")
        answers = Answers(
            self.config, self.world.layout.size, CLIENTS, shapes=self.world.layout.shapes
        )
        model = self.world.initial
        for number in range(1, count + 1):
            there = sorted(there_in(number, pattern, self.world, chance))
            lost = {client for client in there if chance.random() < self.loss}
            if len(lost) == len(there):
                continue
            answers.begin(len(there), RoundId(number))
            for client in there:
                self._answer(answers, client, number, model, is_lost=client in lost)
            model = answers.finish(model)
            answers.end()
            yield number, model

    def _answer(
        self, answers: Answers, client: ClientId, number: int, model: Array, *, is_lost: bool
    ) -> None:
        layout, job = self.world.layout, self._job(client, number)
        memory = self.memories.setdefault(client, KeptMemory())
        trained = load_task(TASK).train(
            layout.unflatten(model),
            self.world.data[client],
            self.training,
            trainer.seed_of(job),
            lambda fraction: None,
        )
        shared = personal.division(layout, ())
        update, remembered = trainer.update(job, shared, model, trained, None, memory.committed)
        self.bytes_up += update.payload.nbytes
        if remembered is not None and not (is_lost and self.waits):
            memory.committed = remembered
        if is_lost:
            return
        if not self.waits and (counted := answers.counted_last(client)) is not None:
            # The coordinator would find that something is missing, and refuse it.
            update = msgspec.structs.replace(update, since=counted)
        fault = answers.check(client, update)
        assert not fault, fault
        answers.fold(client, update, evaluates=False)

    def _job(self, client: ClientId, number: int) -> Job:
        return Job(
            client=client,
            purpose="train",
            task=TASK,
            data_dir="",
            model_path="",
            outbox="",
            run=RunId("unavailable"),
            round=RoundId(number),
            base=Digest("0" * 64),
            measure_base=False,
            fingerprint=self.world.layout.fingerprint,
            training=self.training,
            codec=self.config.codec,
            seed=self.config.seed,
            method=local_method.asked(self.config),
        )


def there_in(number: int, pattern: str, world: World, chance: Random) -> set[ClientId]:
    return {
        client
        for client in sorted(world.data)
        if chance.random() < probability(number, pattern, is_first=client in world.first_half)
    }


def probability(number: int, pattern: str, *, is_first: bool) -> float:
    """That a client is there, so that ten of the fifty are on average."""
    match pattern:
        case "alike":
            return COHORT / CLIENTS
        case "9:1":
            return COHORT / CLIENTS * (1.8 if is_first else 0.2)
        case _:
            return 2 * COHORT / CLIENTS if is_first == ((number - 1) // BLOCK % 2 == 0) else 0.0


def world_of(folder: Path, seed: int) -> World:
    """Raises TaskError where these are not the files of MNIST."""
    images, digits = mnist_files.read(folder, "train")
    chance = np.random.default_rng(seed)
    names = [ClientId(f"client-{n:02}") for n in range(CLIENTS)]
    first_half = names[: CLIENTS // 2]
    data: dict[ClientId, TensorDataset] = {}
    for mine, clients in ((digits < 5, first_half), (digits >= 5, names[CLIENTS // 2 :])):
        places = chance.permutation(np.flatnonzero(mine))
        for n, client in enumerate(clients):
            data[client] = _dataset(images, digits, places[n * EACH : (n + 1) * EACH])
    initial = load_task(TASK).initial_weights(seed)
    layout = weights.layout_of(initial)
    test = _dataset(*mnist_files.read(folder, "test"), np.arange(JUDGED))
    return World(layout, layout.flatten(initial), data, test, frozenset(first_half))


def _dataset(images: Any, digits: Any, places: Any) -> TensorDataset:
    return TensorDataset(
        torch.from_numpy(images[places]).flatten(1), torch.from_numpy(digits[places])
    )


def accuracies(run: Run, pattern: str, count: int) -> list[float]:
    """Of the models of the last quarter of the rounds."""
    world, task = run.world, load_task(TASK)
    return [
        task.evaluate(world.layout.unflatten(model), world.test).metrics["accuracy"]
        for number, model in run.models(pattern, count)
        if number > count * 3 // 4
    ]


def outcome(
    method: str, pattern: str, worlds: dict[int, World], waits: bool, arguments: Any
) -> Outcome:
    strategy, settings, codec = METHODS[method]
    found: list[list[float]] = []
    bytes_up = 0
    for seed, world in worlds.items():
        config = FederationConfig(
            name="unavailable",
            task=TASK,
            aggregation=strategy,
            aggregation_settings=settings,
            codec=codec,
            seed=seed,
        )
        training = Training(epochs=arguments.epochs, batch_size=20, learning_rate=0.1)
        run = Run(world, config, training, seed, arguments.loss, waits)
        found.append(accuracies(run, pattern, arguments.rounds))
        bytes_up += run.bytes_up
    return Outcome(
        method=method,
        pattern=pattern,
        loss=arguments.loss,
        waits=waits,
        accuracy=mean(map(mean, found)),
        worst=mean(map(min, found)),
        megabytes=bytes_up / len(worlds) / 1e6,
        seeds=len(worlds),
    )


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(1)
    outcomes: list[Outcome] = []
    with program.mistakes_told("unavailable.py"):
        worlds = {seed: world_of(arguments.mnist, seed) for seed in arguments.seeds}
        for pattern in arguments.patterns:
            for method in arguments.methods:
                for waits in (True, False) if arguments.loss else (True,):
                    one = outcome(method, pattern, worlds, waits, arguments)
                    outcomes.append(one)
                    sys.stderr.write(f"{pattern} {method}: {one.accuracy:.3f}\n")
    print(_table(outcomes))
    print(json.dumps(program.rounded([asdict(one) for one in outcomes])))


def _table(outcomes: list[Outcome]) -> str:
    head = ["method", "who is there", "lost", "committed", "accuracy", "worst", "MB"]
    rows = [
        [
            one.method,
            one.pattern,
            f"{one.loss:.0%}",
            "by the receipt" if one.waits else "when sent",
            f"{100 * one.accuracy:.1f}",
            f"{100 * one.worst:.1f}",
            f"{one.megabytes:.0f}",
        ]
        for one in outcomes
    ]
    return markdown(head, rows)


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "mnist", needed=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--loss", type=float, default=0.0, help="share of the answers")
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    return parser.parse_args()


if __name__ == "__main__":
    main()

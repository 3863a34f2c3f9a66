"""The fleets that experiments run: what they learn, and from what data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.cells import FLEETS, Cell


@dataclass(frozen=True, slots=True)
class Task:
    data: Path | None
    """None: it brings its own."""
    sets: tuple[str, ...]
    fleet: Path = FLEETS / "people.toml"


def tasks(har: Path | None) -> dict[str, Task]:
    """By name; HAR only where there is a folder with its data."""
    found = {
        "phonewatch": Task(
            None,
            (
                "federation.task=learning_tasks.phonewatch",
                "federation.training.learning_rate=0.01",
                "federation.training.momentum=0.9",
                "federation.rounds.count=40",
                # 198 windows, where a person of HAR has 350.
                "device.ms_per_sample=88.0",
            ),
        )
    }
    if har is not None:
        found["har"] = Task(har.resolve(), ("federation.task=learning_tasks.har",))
    return found


def digits(mnist: Path, *sets: str) -> Task:
    """Small MNIST, in batches of 20 digits."""
    known = ("federation.task=experiments.small_mnist", "federation.training.batch_size=20")
    return Task(mnist.resolve(), (*known, *sets), FLEETS / "mnist.toml")


def fleet_of(task: Task, name: str, seed: int, sets: Sequence[str]) -> Cell:
    data = () if task.data is None else (f"data.path={json.dumps(str(task.data))}",)
    seeds = (f"federation.seed={seed}", f"seed={seed}")
    return Cell(name, task.fleet, (*data, *task.sets, *sets, *seeds))

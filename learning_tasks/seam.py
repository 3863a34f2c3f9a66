"""The lower seam: what the trainer asks of a task, in named arrays and without torch.

A task is anything that has the four functions of `Task`: a plain module, or the adapter that
`learning_tasks.torch_training` puts around a torch task file.

    weights ──train(data)──▶ Trained       what a client sends to the coordinator
    weights ──evaluate(data)──▶ Evaluated  what a client tells about a model; the data stays
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedmqtt.messages import Training
from fedmqtt.weights import Weights

Progress = Callable[[float], bool | None]
"""Hears the finished fraction of a training, 0 to 1. True: it is enough, send what there is. May
raise, to stop."""


class TaskError(Exception):
    """The owner of the task or of the data made a mistake; one sentence says what to change."""


class DataError(TaskError):
    """What the owner's code read its data from is not there, or is something else."""


@dataclass(frozen=True)
class Trained:
    """Weights after local training, and on how many samples: the client's share in the average.

    The weights have the names, shapes and order of those that training began with. What `gradient`
    returns has a gradient in their place.
    """

    weights: Weights
    sample_count: int
    metrics: dict[str, float]
    steps: int = 0
    """Of SGD that were made; 0: the task does not say."""
    base_loss: float | None = None
    """Mean loss over the samples before training, where it was asked for."""
    corrected: tuple[str, ...] = ()
    """The names of those weights whose gradients had the `correction` added, where one was given:
    all that SGD moves, and no running statistics."""
    statistics: frozenset[str] = frozenset()
    """Of what `gradient` returns: those that are no parameters and have no gradient, as running
    means. What stands in their place is before minus after."""


@dataclass(frozen=True)
class Evaluated:
    """How good weights are on one client's data: means over its `sample_count` samples.

    `confusion[i][j]` counts samples of true class i that were taken for class j; None where the
    task has no classes.
    """

    sample_count: int
    metrics: dict[str, float]
    confusion: list[list[int]] | None


class Task(Protocol):
    """What clients learn. Every function is deterministic in its arguments.

    A task may define two more things, for strategies that ask more of clients than plain local SGD
    (a module that does not is refused by those, in one sentence), and what it measures:

        LOCAL_METHODS       of "proximal": `train` adds training.proximal * (w - w_base) to each
                            gradient; "steps": `train` ends early when `progress` says so, after one
                            step at least, and tells how many it made; "correction": `train`
                            takes a keyword of that name, arrays by the weights' names, adds each to
                            every gradient of its weight, and tells which it has `corrected`
        gradient(weights, data, training, seed, progress) -> Trained
                            of the mean loss over all samples, in the model's train mode
        CLASS_NAMES, METRIC_NAMES
                            what `evaluate` measures: see `measures.py`
    """

    def initial_weights(self, seed: int) -> Weights:
        """The untrained model: float32 arrays by name, the same names and shapes for any seed."""

    def load_data(self, data_dir: Path, client: str, purpose: str) -> Any:
        """One client's own data, as `train` and `evaluate` like it; `purpose` names which of them.

        Raises `TaskError` where there is none.
        """

    def train(
        self,
        weights: Weights,
        data: Any,
        training: Training,
        seed: int,
        progress: Progress,
    ) -> Trained:
        """Train on `data`, starting from `weights`, which are left as they were.

        Raises `TaskError` where the training diverges.
        """

    def evaluate(self, weights: Weights, data: Any) -> Evaluated:
        """Measure `weights` on `data`."""

"""Jobs for trainers: the linear task, and tasks that misbehave."""

from pathlib import Path
from typing import Any

import numpy as np

from edge_client import trainer
from edge_client.outbox import Outbox
from edge_client.training_job import Job
from fedmqtt import weights
from fedmqtt.messages import FromClient, Training, Update, read_from_client
from fedmqtt.topics import ClientId, RoundId, RunId
from learning_tasks import linear

ANN = ClientId("ann")
LINEAR = "learning_tasks.linear"


def model_file(plus: float = 0.0) -> bytes:
    """The linear task's untrained model, or another one."""
    initial = linear.initial_weights(0)
    layout = weights.layout_of(initial)
    return weights.write(layout, layout.flatten(initial) + np.float32(plus))


def job(folder: Path, **changes: Any) -> Job:
    """Training of the linear task, its data and its outbox in this folder."""
    model = model_file()
    path = folder / "base.model"
    path.write_bytes(model)
    settings: dict[str, Any] = {
        "client": ANN,
        "purpose": "train",
        "task": LINEAR,
        "data_dir": str(folder),
        "model_path": str(path),
        "outbox": str(folder / "outbox"),
        "run": RunId("r"),
        "round": RoundId(1),
        "base": weights.digest(model),
        "measure_base": False,
        "fingerprint": weights.layout_of(linear.initial_weights(0)).fingerprint,
        "training": Training(),
        "codec": "full",
        "seed": 7,
    }
    return Job(**settings | changes)


def answer_to(job: Job) -> FromClient:
    """What the trainer leaves in the outbox."""
    kept = trainer.work(job, lambda fraction: None)
    return read_from_client(Outbox(Path(job.outbox)).read(kept))


def update_to(job: Job) -> Update:
    answer = answer_to(job)
    assert isinstance(answer, Update)
    return answer


def task_file(folder: Path, name: str, in_train: str) -> str:
    """A task like the linear one, but that `train` begins with these lines. Its path.

    `here` is the folder of the data, `again()` trains as the linear task does.
    """
    path = folder / f"{name}.py"
    lines = "\n".join(f"    {line}" for line in in_train.strip().splitlines())
    path.write_text(_TASK.format(lines=lines))
    return str(path)


_TASK = """
import os, resource, signal, subprocess, sys, time
from pathlib import Path
from learning_tasks import linear
from learning_tasks.linear import evaluate, initial_weights
from learning_tasks.seam import TaskError

def load_data(data_dir, client, purpose):
    return data_dir, linear.load_data(data_dir, client, purpose)

def train(weights, data, training, seed, progress):
    here, data = data
    def again():
        return linear.train(weights, data, training, seed, progress)
{lines}
    return again()
"""


def flat(payload: memoryview) -> Any:
    """The numbers in an update that the codec `full` encoded."""
    return np.frombuffer(payload, "<f4")

"""The same results with any number of processes; a failed client is a sentence in its place."""

import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from fleet_sim.training.group import TOLERANCE, difference
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.processes import Processes
from fleet_sim.training.trainers import Trainers
from learning_tasks.loading import load_task
from learning_tasks.seam import Evaluated, TaskError, Trained

WIDE = str(Path(__file__).with_name("wide_task.py"))
TRAINING = Training(epochs=2, batch_size=8, learning_rate=0.05, momentum=0.5)
SEVEN = ["c1-20", "c2-9", "c3-33", "c4-8", "c5-64", "c6-17", "c7-2"]


def jobs(clients: Sequence[str]) -> list[TrainJob]:
    return [TrainJob(client, seed) for seed, client in enumerate(clients)]


def base() -> Weights:
    return load_task(WIDE).initial_weights(3)


def alone(client: str, seed: int) -> Trained:
    task = load_task(WIDE)
    data = task.load_data(Path("nowhere"), client, "train")
    return task.train(base(), data, TRAINING, seed, lambda fraction: None)


def same(one: Trained | str, other: Trained | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return (
        all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
        and one.metrics == other.metrics
        and one.sample_count == other.sample_count
    )


def test_one_at_a_time_is_what_the_real_client_computes_to_the_last_bit(tmp_path: Path) -> None:
    with Trainers(WIDE, tmp_path, together=1, processes=1) as trainers:
        found = trainers.train(base(), jobs(SEVEN), TRAINING)
    expected = [alone(client, seed) for seed, client in enumerate(SEVEN)]
    assert all(map(same, found, expected))
    assert all(list(one.weights) == list(base()) for one in found if isinstance(one, Trained))


def test_the_number_of_processes_does_not_change_a_bit(tmp_path: Path) -> None:
    runs = []
    for processes in (0, 1, 3):
        with Trainers(WIDE, tmp_path, together=2, processes=processes) as trainers:
            first = trainers.train(base(), jobs(SEVEN), TRAINING)
            runs.append([*first, *trainers.train(base(), jobs(SEVEN[::-1]), TRAINING)])
    assert all(map(same, runs[0], runs[1]))
    assert all(map(same, runs[0], runs[2]))
    for i, client in enumerate(SEVEN):
        expected, found = alone(client, i), runs[0][i]
        assert isinstance(found, Trained)
        assert difference(expected.weights, found.weights, base()) < TOLERANCE


def test_no_hash_seed_changes_a_bit(tmp_path: Path) -> None:
    code = (
        "import hashlib, sys; from pathlib import Path\n"
        "from fleet_sim.training.trainers import Trainers\n"
        "from fleet_sim.training.orders import TrainJob\n"
        "from fedmqtt.messages import Training; from learning_tasks.loading import load_task\n"
        "task, clients = sys.argv[1], sys.argv[2:]\n"
        "with Trainers(task, Path('nowhere'), processes=0) as trainers:\n"
        "    jobs = [TrainJob(client, 1) for client in clients]\n"
        "    found = trainers.train(load_task(task).initial_weights(3), jobs, Training())\n"
        "bits = b''.join(a.tobytes() for one in found for a in one.weights.values())\n"
        "print(hashlib.sha256(bits).hexdigest())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, WIDE, *SEVEN],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1 and len(said.pop()) == 65


@pytest.mark.parametrize("together", [1, 3, "auto"])
def test_a_failed_client_is_a_sentence_in_its_place(tmp_path: Path, together: int) -> None:
    clients = ["empty", "c1-20", "far-20", "c2-9"]
    with Trainers(WIDE, tmp_path, together=together, processes=1) as trainers:
        empty, first, far, second = trainers.train(base(), jobs(clients), TRAINING)
    assert empty == f"empty has no samples to train with in {tmp_path}"
    assert isinstance(far, str) and "lower the learning rate" in far
    assert isinstance(first, Trained) and isinstance(second, Trained)
    assert difference(alone("c1-20", 1).weights, first.weights, base()) < TOLERANCE
    assert difference(alone("c2-9", 3).weights, second.weights, base()) < TOLERANCE


def test_a_process_that_dies_is_replaced_and_its_work_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clients = ["c1-20", "once1-20", "c2-9"]
    with Trainers(WIDE, tmp_path, together=1, processes=1) as trainers:
        found = trainers.train(base(), jobs(clients), TRAINING)
        again = trainers.train(base(), jobs(clients), TRAINING)
    assert all(isinstance(one, Trained) for one in found)
    assert all(map(same, found, again))
    assert [record.getMessage() for record in caplog.records] == [
        "the trainer was killed by SIGKILL, perhaps for lack of memory; "
        "its work is done again by another"
    ]


def test_a_client_that_kills_its_process_fails_nobody_else(tmp_path: Path) -> None:
    clients = ["c1-20", "deadly", "c2-9"]
    with Trainers(WIDE, tmp_path, together=3, processes=2) as trainers:
        first, deadly, second = trainers.train(base(), jobs(clients), TRAINING)
    assert deadly == "the trainer was killed by SIGKILL, perhaps for lack of memory"
    assert same(first, alone("c1-20", 0)) and same(second, alone("c2-9", 2))


def test_held_out_data_is_measured_exactly_as_the_real_client_does(tmp_path: Path) -> None:
    task = load_task(WIDE)
    clients = [*SEVEN, "empty"]
    with Trainers(WIDE, tmp_path, processes=2) as trainers:
        heard: list[float] = []
        *found, missing = trainers.evaluate(base(), clients, heard.append)
    expected = [
        task.evaluate(base(), task.load_data(tmp_path, client, "evaluate")) for client in SEVEN
    ]
    assert found == expected and all(isinstance(one, Evaluated) for one in found)
    assert missing == f"empty has no samples to evaluate with in {tmp_path}"
    assert heard == sorted(heard) and heard[-1] == 1


def test_progress_is_heard_up_to_the_end(tmp_path: Path) -> None:
    heard: list[float] = []
    with Trainers(WIDE, tmp_path, together=2, processes=2) as trainers:
        trainers.train(base(), jobs(SEVEN), TRAINING, heard.append)
    assert heard == sorted(heard) and len(heard) == 4 and heard[-1] == 1


def test_nobody_is_no_work(tmp_path: Path) -> None:
    with Trainers(WIDE, tmp_path, processes=1) as trainers:
        assert trainers.train(base(), [], TRAINING) == []
        assert trainers.evaluate(base(), []) == []


def test_weights_of_another_model_are_a_sentence_for_each(tmp_path: Path) -> None:
    other = {"weight": np.zeros((2, 2), np.float32)}
    with Trainers(WIDE, tmp_path, together=2, processes=0) as trainers:
        found = trainers.train(other, jobs(SEVEN[:3]), TRAINING)
    assert len(found) == 3
    assert all(isinstance(one, str) and "do not fit the task's model" in one for one in found)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_task_that_is_none_is_refused(tmp_path: Path, processes: int) -> None:
    with (
        Trainers("no_such_task.py", tmp_path, processes=processes) as trainers,
        pytest.raises(TaskError, match=r"there is no task file no_such_task\.py"),
    ):
        trainers.train(base(), jobs(SEVEN), TRAINING)


DROPOUT = """
from torch import nn
from wide import CLASS_NAMES, load_data, loss
def build_model():
    return nn.Sequential(nn.Linear(16, 3), nn.Dropout(0.5))
"""

COUNTING = """
from torch import nn
from wide import CLASS_NAMES, load_data, loss
class Fading(nn.Module):
    steps = 0
    def forward(self, inputs):
        self.steps += 1
        return inputs / self.steps
def build_model():
    return nn.Sequential(nn.Linear(16, 3), Fading())
"""


@pytest.mark.parametrize(("text", "reason"), [(DROPOUT, "random"), (COUNTING, "of their length")])
def test_what_cannot_be_trained_together_is_trained_alone_and_said_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    reason: str,
) -> None:
    (tmp_path / "wide.py").write_text(Path(WIDE).read_text())
    (tmp_path / "own_task.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    name = str(tmp_path / "own_task.py")
    task = load_task(name)
    weights = task.initial_weights(0)
    with Trainers(name, tmp_path, together=3, processes=1) as trainers:
        trainers.train(weights, jobs(SEVEN), TRAINING)
        found = trainers.train(weights, jobs(SEVEN), TRAINING)
    for seed, (client, one) in enumerate(zip(SEVEN, found, strict=True)):
        data = task.load_data(tmp_path, client, "train")
        assert same(one, task.train(weights, data, TRAINING, seed, lambda fraction: None))
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "is trained one client at a time: " in said.getMessage()
    assert reason in said.getMessage()


PARENT = """
import sys
from pathlib import Path
from fedmqtt.messages import Training
from fleet_sim.training.orders import Order, TrainJob
from fleet_sim.training.processes import Processes
from learning_tasks.loading import load_task
task = sys.argv[1]
processes = Processes(task, Path("nowhere"), "cpu", 2)
base = load_task(task).initial_weights(0)
endless = Training(epochs=10000, batch_size=1, learning_rate=1e-6)
orders = [
    Order(purpose="train", jobs=(TrainJob(name, 0),), training=training)
    for name, training in [("c1-20", Training()), ("c2-99999", endless), ("c3-99999", endless)]
]
def started(done):
    print(*(worker.process.pid for worker in processes._workers), flush=True)
processes.run(base, orders, started)
"""


def test_processes_end_with_their_parent_even_when_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, WIDE], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        watched = [os.pidfd_open(pid) for pid in pids]
        parent.kill()
    for descriptor in watched:
        with os.fdopen(descriptor) as ended:
            # Readable when the process is gone; the suite's time limit is the deadline.
            assert select.select([ended], [], [])[0]


def test_closing_ends_the_processes(tmp_path: Path) -> None:
    trainers = Trainers(WIDE, tmp_path, processes=2)
    trainers.train(base(), jobs(SEVEN), TRAINING)
    workers = trainers._workers
    assert isinstance(workers, Processes)
    running = [worker.process for worker in workers._workers]
    assert len(running) == 2
    trainers.close()
    assert [process.returncode for process in running] == [-signal.SIGKILL] * 2

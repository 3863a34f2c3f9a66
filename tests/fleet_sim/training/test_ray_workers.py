"""The same on Ray as on this machine, bit for bit. Against a real Ray, where it is installed."""

import socket
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason='Ray is not installed: pip install "fedmqtt[ray]"')

from fedmqtt.messages import Training
from fedmqtt.settings import SettingsError
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.ray_workers import on_ray
from fleet_sim.training.trainers import Trainers
from learning_tasks.loading import load_task
from learning_tasks.seam import TaskError, Trained

WIDE = str(Path(__file__).with_name("wide_task.py"))


def test_ray_gives_the_same_bits_and_fails_as_processes_do(tmp_path: Path) -> None:
    base = load_task(WIDE).initial_weights(3)
    clients = ["c1-20", "c2-9", "empty", "c3-33", "once1-12", "c4-8"]
    jobs = [TrainJob(client, seed) for seed, client in enumerate(clients)]
    training = Training(epochs=2, batch_size=8, momentum=0.5)
    with Trainers(WIDE, tmp_path, together=2, workers=on_ray(2)) as trainers:
        there = trainers.train(base, jobs, training)
        measured = trainers.evaluate(base, clients)
        deadly = trainers.train(base, [TrainJob("deadly", 0), jobs[0]], training)
    # By now it is there, and nothing dies of reading it.
    assert (tmp_path / "once1-12").exists()
    with Trainers(WIDE, tmp_path, together=2, processes=1) as trainers:
        here = trainers.train(base, jobs, training)
        assert measured == trainers.evaluate(base, clients)
    assert there[2] == here[2] == f"empty has no samples to train with in {tmp_path}"
    for one, other in zip(there, here, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            assert one == other
            continue
        assert one.metrics == other.metrics
        assert all(np.array_equal(one.weights[name], other.weights[name]) for name in base)
    assert deadly[0] == "the trainer died on Ray"
    assert isinstance(deadly[1], Trained)


def test_a_task_that_is_none_is_refused_on_ray_too(tmp_path: Path) -> None:
    base = load_task(WIDE).initial_weights(3)
    with (
        Trainers("no_such_task.py", tmp_path, workers=on_ray(1)) as trainers,
        pytest.raises(TaskError, match=r"there is no task file no_such_task\.py"),
    ):
        trainers.train(base, [TrainJob("c1-20", 0)], Training())


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:ten", "127.0.0.1:70000", "ray://127.0.0.1:0"]
)
def test_an_address_that_can_be_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=f"no Ray at {address}: an address is host:port"):
        on_ray(1, address)


def test_where_nobody_listens_it_is_said_at_once() -> None:
    with socket.socket() as taken:
        # Bound, and not listening: nobody else can begin to listen there meanwhile.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=f"no Ray at {address}: .*refused"):
            on_ray(1, address)

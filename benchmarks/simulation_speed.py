"""How fast clients are trained in simulation, against the plain loop that people write.

Two models: McMahan's 2NN on MNIST (100 clients of 600 digits, 10 a round, E=1, B=10) and the
phone-and-watch model (10 of its 34 devices a round). Prints one JSON line for each:

    plain_per_s   client-rounds per second, one client after the other: model, DataLoader,
                  torch.optim.SGD, loss.backward(), optimizer.step(), loss.item(); one process, with
                  torch's own number of threads or one, whichever is faster here
    alone_per_s   of `TorchTask.train`, which the real client runs; one process, one thread
    ours_per_s    of `fleet_sim.training` with `processes` processes
    ratio         ours_per_s / plain_per_s
    cpu_ratio     CPU seconds of the plain loop on one thread / CPU seconds of ours, all processes:
                  what one core gains, whoever else uses the machine
    difference_   (median and max) distance of a client's weights to what `TorchTask.train` gives,
                  relative to the length of its change; see `fleet_sim/training/group.py`

Wall times are medians over `--turns`; in each of them all take their turn. The data has been read
before. Without `--mnist` the digits are noise in MNIST's shape, which costs as much to train on.
"""

import argparse
import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.processes import children, cpu_s
from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from fleet_sim.split import make_split
from fleet_sim.training.group import difference
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.trainers import Trainers
from learning_tasks import mnist_2nn, phonewatch
from learning_tasks.loading import load_task
from learning_tasks.phonewatch_devices import TRAINING_CLIENTS
from learning_tasks.seam import Trained
from learning_tasks.torch_training import TorchTask, TorchTaskFile, put_weights, weights_of

_WARM_UP = 5
"""Rounds of all clients before the measured ones: processes start, steps are recorded, and each
process reads the data of nearly everybody."""


@dataclass(frozen=True)
class _Model:
    name: str
    task: str
    file: TorchTaskFile
    data_dir: Path
    clients: Sequence[str]
    training: Training


def main() -> int:
    arguments = _parse()
    # So that the workers find the packages of this repository too.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with TemporaryDirectory() as scratch:
        for model in (_mnist(arguments, Path(scratch)), _phonewatch(Path(scratch))):
            sys.stdout.write(json.dumps(_measure(model, arguments)) + "\n")
            sys.stdout.flush()
    return 0


def _mnist(arguments: argparse.Namespace, scratch: Path) -> _Model:
    pool = arguments.mnist or _noise(scratch / "noise", arguments.clients * arguments.samples)
    folder = scratch / "split"
    make_split("learning_tasks.mnist_2nn", pool, "iid", {}, arguments.clients, 1, 0.0, folder)
    training = Training(epochs=1, batch_size=10, learning_rate=0.05)
    with np.load(folder / "split.npz", allow_pickle=False) as split:  # noqa: TID251
        clients = split["clients"].tolist()
    return _Model("mnist_2nn", "learning_tasks.mnist_2nn", mnist_2nn, folder, clients, training)


def _phonewatch(scratch: Path) -> _Model:
    training = Training(epochs=2, batch_size=16, learning_rate=0.01, momentum=0.9)
    task = "learning_tasks.phonewatch"
    return _Model("phonewatch", task, phonewatch, scratch, TRAINING_CLIENTS, training)


def _noise(folder: Path, count: int) -> Path:
    """Files like MNIST's, of `count` images to train on; nobody tests here."""
    folder.mkdir()
    chance = np.random.default_rng(1)
    images = chance.integers(256, size=(count, 28, 28), dtype=np.uint8)
    digits = chance.integers(10, size=count, dtype=np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", digits)):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        content = gzip.compress(head + array.tobytes(), compresslevel=0)
        (folder / f"train-{name}-ubyte.gz").write_bytes(content)
    return folder


def _measure(model: _Model, arguments: argparse.Namespace) -> dict[str, Any]:
    task = cast(TorchTask, load_task(model.task))
    base = task.initial_weights(1)
    threads = torch.get_num_threads()
    clock = _Clock({}, {})
    apart: list[float] = []
    with Trainers(
        model.task, model.data_dir, processes=arguments.processes, device=arguments.device
    ) as trainers:
        everybody = _cohort(model.clients, len(model.clients), 0)
        for _ in range(_WARM_UP):
            trainers.train(base, everybody, model.training)
        for turn in range(arguments.turns):
            jobs = _cohort(model.clients, arguments.cohort, turn)
            clients = [task.load_data(model.data_dir, job.client, "train") for job in jobs]
            clock.time("plain", threads, _plain, model, base, clients)
            clock.time("plain_1", 1, _plain, model, base, clients)
            alone = clock.time("alone", 1, _alone, task, base, clients, jobs, model.training)
            ours = clock.time("ours", 1, trainers.train, base, jobs, model.training)
            apart += [
                difference(one.weights, other.weights, base)
                for one, other in zip(alone, ours, strict=True)
            ]
    per_s = {
        name: arguments.cohort / statistics.median(spans) for name, spans in clock.wall_s.items()
    }
    cpu = {name: statistics.median(spans) for name, spans in clock.cpu_s.items()}
    plain = max(per_s["plain"], per_s["plain_1"])
    return {
        "model": model.name,
        "params": sum(array.size for array in base.values()),
        "clients": len(model.clients),
        "cohort": arguments.cohort,
        "processes": arguments.processes,
        "device": arguments.device,
        "plain_per_s": round(plain, 2),
        "alone_per_s": round(per_s["alone"], 2),
        "ours_per_s": round(per_s["ours"], 2),
        "ratio": round(per_s["ours"] / plain, 2),
        "cpu_ratio": round(cpu["plain_1"] / cpu["ours"], 2),
        "difference_median": statistics.median(apart),
        "difference_max": max(apart),
    }


@dataclass(frozen=True)
class _Clock:
    """Wall and CPU seconds by name, of this process and of those that it started."""

    wall_s: dict[str, list[float]]
    cpu_s: dict[str, list[float]]

    def time(self, name: str, threads: int, work: Callable[..., Any], *arguments: Any) -> Any:
        torch.set_num_threads(threads)
        used, began = _cpu_s(), time.perf_counter()
        result = work(*arguments)
        self.wall_s.setdefault(name, []).append(time.perf_counter() - began)
        self.cpu_s.setdefault(name, []).append(_cpu_s() - used)
        return result


def _cpu_s() -> float:
    return sum(map(cpu_s, [os.getpid(), *children(os.getpid())]))


def _cohort(clients: Sequence[str], size: int, turn: int) -> list[TrainJob]:
    chosen = [clients[(turn * size + i) % len(clients)] for i in range(size)]
    return [TrainJob(client, turn * size + i) for i, client in enumerate(chosen)]


def _plain(model: _Model, base: Weights, clients: Sequence[Dataset[Any]]) -> list[Weights]:
    results = []
    for data in clients:
        net = model.file.build_model()
        put_weights(net, base)
        optimizer = torch.optim.SGD(
            net.parameters(), lr=model.training.learning_rate, momentum=model.training.momentum
        )
        loader = DataLoader(data, batch_size=model.training.batch_size, shuffle=True)
        net.train()
        for _ in range(model.training.epochs):
            total = 0.0
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = model.file.loss(net(inputs), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item()
        results.append(weights_of(net))
    return results


def _alone(
    task: TorchTask,
    base: Weights,
    clients: Sequence[Dataset[Any]],
    jobs: Sequence[TrainJob],
    training: Training,
) -> list[Trained]:
    return [
        task.train(base, data, training, job.seed, lambda fraction: None)
        for data, job in zip(clients, jobs, strict=True)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, help="folder with the four files of MNIST")
    parser.add_argument("--clients", type=int, default=100, help="of the 2NN")
    parser.add_argument("--samples", type=int, default=600, help="of each, without --mnist")
    parser.add_argument("--cohort", type=int, default=10, help="clients a round")
    parser.add_argument("--turns", type=int, default=7, help="measured rounds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

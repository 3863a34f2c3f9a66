"""Workers on a Ray cluster, so that more than one machine trains: `pip install "fedmqtt[ray]"`.

Every machine needs the same task and the same data at the same path. What comes out is the same bit
for bit as from processes of one machine, if the machines compute alike (same torch, same processor
family): the groups are the same, and each is trained by one thread.

    Trainers(task, data_dir, workers=on_ray(8, "auto"))
"""

import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError

from fedmqtt.settings import SettingsError
from fedmqtt.weights import Weights
from fleet_sim.training.bench import Bench
from fleet_sim.training.orders import Answer, Order, Piece, open_answers
from learning_tasks.seam import TaskError

_log = logging.getLogger(__name__)

_ANSWERS_WITHIN_S = 5.0


def on_ray(count: int, address: str | None = None) -> Callable[[str, Path, str], "RayWorkers"]:
    """For `Trainers`: `count` workers on the cluster at `address`, "auto" for the one that this
    machine belongs to; None starts one on this machine.

    Raises SettingsError at once where nobody answers at the address.
    """
    if address:
        _require(address)
    return lambda task, data_dir, device: RayWorkers(task, data_dir, device, count, address)


class RayWorkers:
    """`count` actors for one task."""

    def __init__(
        self, task: str, data_dir: Path, device: str, count: int, address: str | None = None
    ) -> None:
        self._words = (task, str(data_dir.absolute()), device)
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            # How many processors a cluster has is not ours to say; one that is started here has as
            # many as it is to have workers.
            own: dict[str, Any] = {} if address else {"num_cpus": count, "include_dashboard": False}
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **own)
            except (ConnectionError, ValueError) as error:
                raise SettingsError(f"no Ray at {address}: {error}") from error
        self._idle = [self._start() for _ in range(count)]

    def run(
        self, base: Weights, orders: Sequence[Order], progress: Callable[[int], None]
    ) -> list[Answer]:
        """Raises `TaskError` where the task cannot be loaded."""
        # Stored once in the cluster, not sent with each order.
        shared = ray.put(base)
        answers = open_answers(orders)
        waiting = deque(Piece(order, i) for i, order in enumerate(orders))
        busy: dict[Any, tuple[Piece, Any]] = {}
        done = 0
        while waiting or busy:
            while waiting and self._idle:
                actor = self._idle.pop(0)
                piece = waiting.popleft()
                busy[actor.work.remote(shared, piece.order)] = (piece, actor)
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            piece, actor = busy.pop(ready)
            try:
                found = _answer(ray.get(ready))
                self._idle.append(actor)
            except RayActorError:
                self._idle.append(self._start())
                if again := piece.after_a_death():
                    _log.warning("a trainer on Ray died; its work is done again by another")
                    waiting.extendleft(again)
                    continue
                found = Answer(["the trainer died on Ray"])
            piece.put(answers, found.results, found.verdict)
            done += len(found.results)
            progress(done)
        return answers

    def close(self) -> None:
        for actor in self._idle:
            ray.kill(actor)
        self._idle.clear()
        if self._started_ray:
            ray.shutdown()

    def _start(self) -> Any:
        gpus = 1 if self._words[-1] == "cuda" else 0
        # Ray starts an actor again by itself if told to, but does not do its work again.
        return _Actor.options(num_cpus=1, num_gpus=gpus).remote(*self._words)


def _require(address: str) -> None:
    """Ray itself would try for minutes, and log while it does."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(f"no Ray at {address}: an address is host:port, say 192.0.2.7:6379")
    try:
        socket.create_connection((host, int(port)), _ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise SettingsError(f"no Ray at {address}: {error}") from error


class _Bench:
    """One worker, in a process of its own somewhere in the cluster."""

    def __init__(self, task: str, data_dir: str, device: str) -> None:
        torch.set_num_threads(1)
        self._bench: Bench | str
        try:
            self._bench = Bench(task, Path(data_dir), device)
        except TaskError as error:
            self._bench = str(error)

    def work(self, base: Weights, order: Order) -> Answer | str:
        """A sentence where the task cannot be loaded."""
        return self._bench if isinstance(self._bench, str) else self._bench.work(base, order)


_Actor = ray.remote(_Bench)


def _answer(found: Answer | str) -> Answer:
    if isinstance(found, str):
        raise TaskError(found)
    return found

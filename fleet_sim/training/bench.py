"""Where orders are carried out: one task and its data."""

import math
import statistics
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import TensorDataset

from edge_client import local_training
from fedmqtt import personal
from fedmqtt.messages import Method, Purpose
from fedmqtt.weights import Weights, WeightsError, layout_of
from fleet_sim.training.group import TOLERANCE, Group, NotTogether, difference
from fleet_sim.training.orders import Answer, Order, Result, TrainJob, Verdict
from learning_tasks.loading import load_task
from learning_tasks.seam import Progress, Task, TaskError, Trained
from learning_tasks.torch_training import TorchTask

_CHECKED = 3
"""Clients that are trained both ways. Of one alone rounding may decide, see `group`."""
_KEPT_BYTES = 256 * 2**20
"""Data of clients that is kept for their next round."""


class Bench:
    """Carries out one order after another. Raises `TaskError` where the task cannot be loaded."""

    def __init__(self, task: str, data_dir: Path, device: str) -> None:
        self._task = load_task(task)
        self._data = _KeptData(self._task, data_dir)
        self._device = device
        self._group: Group | None = None

    def work(self, base: Weights, order: Order) -> Answer:
        if order.purpose == "evaluate":
            return Answer([self._evaluate(base, job, order) for job in order.jobs])
        if not order.together:
            return Answer([self._train(base, job, order) for job in order.jobs])
        return self._train_together(base, order)

    def _train_together(self, base: Weights, order: Order) -> Answer:
        results: list[Result] = ["" for _ in order.jobs]
        found: dict[int, Any] = {}
        for i, job in enumerate(order.jobs):
            data = self._get(job.client, "train")
            if isinstance(data, str):
                results[i] = data
            else:
                found[i] = data
        try:
            together = self._group_train(base, list(found.values()), order, list(found))
            verdict = Verdict()
            if order.check:
                verdict = self._compare(base, order, dict(zip(found, together, strict=True)))
            if not verdict.refusal:
                for i, result in zip(found, together, strict=True):
                    results[i] = result
                return Answer(results, verdict)
        except NotTogether as reason:
            verdict = Verdict(refusal=str(reason))
        except Exception as error:
            # The task is its owner's program. If it fails alone too, the sentences say so.
            verdict = Verdict(refusal=_sentence(error))
        for i in found:
            results[i] = self._train(base, order.jobs[i], order)
        return Answer(results, verdict)

    def _group_train(
        self, base: Weights, data: list[Any], order: Order, rows: list[int]
    ) -> list[Trained | str]:
        if not data:
            return []
        if not isinstance(self._task, TorchTask):
            raise NotTogether("it is not a torch task")
        if self._group is None:
            self._group = Group(self._task, self._device)
        jobs = [order.jobs[i] for i in rows]
        starts = [_own_of(base, job, order.method) for job in jobs]
        found = self._group.train(
            base,
            data,
            [job.seed for job in jobs],
            order.training,
            steps_max=[job.steps_max for job in jobs],
            own=starts,
            gradient=order.method.sends == "gradient",
            corrections=[c for job in jobs if (c := _correction_of(base, job)) is not None],
        )
        if not order.method.tells_loss:
            return found
        return [
            one
            if isinstance(one, str)
            else replace(one, base_loss=local_training.base_loss(self._task, base | own, its_data))
            for one, own, its_data in zip(found, starts, data, strict=True)
        ]

    def _compare(self, base: Weights, order: Order, together: dict[int, Trained | str]) -> Verdict:
        """Train the first clients alone too; most of them must come out the same."""
        apart: list[float] = []
        for i, result in together.items():
            alone = self._train(base, order.jobs[i], order)
            if isinstance(alone, Trained) and isinstance(result, Trained):
                start = base | _own_of(base, order.jobs[i], order.method)
                if order.method.sends == "gradient":
                    start = {name: np.zeros_like(array) for name, array in base.items()}
                apart.append(difference(alone.weights, result.weights, start))
            elif isinstance(alone, Trained) or isinstance(result, Trained):
                apart.append(math.inf)
            if len(apart) == _CHECKED:
                break
        if not apart:
            return Verdict()
        usual = statistics.median_low(apart)
        # Written so that NaN is refused.
        if not usual <= TOLERANCE:
            return Verdict(
                refusal=f"together, clients' changes are off by {usual:.1g} of their length, "
                f"which is more than {TOLERANCE}"
            )
        return Verdict(is_checked=True)

    def _train(self, base: Weights, job: TrainJob, order: Order) -> Result:
        data = self._get(job.client, "train")
        if isinstance(data, str):
            return data
        progress: Progress = _unheard
        if job.steps_max:
            progress = local_training.for_steps(job.steps_max, progress)
        try:
            start = base | _own_of(base, job, order.method)
            return local_training.train(
                self._task,
                start,
                data,
                order.training,
                order.method,
                job.seed,
                progress,
                _correction_of(base, job),
            )
        except Exception as error:
            return _sentence(error)

    def _evaluate(self, weights: Weights, job: TrainJob, order: Order) -> Result:
        data = self._get(job.client, "evaluate")
        if isinstance(data, str):
            return data
        try:
            return local_training.evaluate(
                self._task,
                weights | _own_of(weights, job, order.method),
                data,
                order.training,
                order.method,
                job.seed,
                lambda: self._data.get(job.client, "train"),
                _unheard,
            )
        except Exception as error:
            return _sentence(error)

    def _get(self, client: str, purpose: Purpose) -> Any:
        """The client's data, or the sentence that says why there is none."""
        try:
            return self._data.get(client, purpose)
        except Exception as error:
            return _sentence(error)


class _KeptData:
    """The data of the clients that were asked for last; how much is bounded."""

    def __init__(self, task: Task, data_dir: Path) -> None:
        self._task = task
        self._data_dir = data_dir
        self._kept: OrderedDict[tuple[str, Purpose], TensorDataset] = OrderedDict()
        self._bytes = 0

    def get(self, client: str, purpose: Purpose) -> Any:
        key = (client, purpose)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        data = self._task.load_data(self._data_dir, client, purpose)
        # What is behind another dataset cannot be measured.
        if type(data) is TensorDataset:
            self._kept[key] = data
            self._bytes += _size(data)
            while self._bytes > _KEPT_BYTES:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)
        return data


def _own_of(base: Weights, job: TrainJob, method: Method) -> Weights:
    """The layers that the client keeps for itself; none where it begins with the model's."""
    if not job.own:
        return {}
    layout = personal.division(layout_of(base), method.personal).personal
    return layout.unflatten(np.frombuffer(job.own, np.float32))


def _correction_of(base: Weights, job: TrainJob) -> Weights | None:
    """What is added to each of the client's gradients, if anything."""
    if not job.correction:
        return None
    return layout_of(base).unflatten(np.frombuffer(job.correction, np.float32))


def _size(data: TensorDataset) -> int:
    return sum(tensor.nbytes for tensor in data.tensors)


def _sentence(error: Exception) -> str:
    """What the real client would say of it."""
    if isinstance(error, TaskError | WeightsError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the device has not enough memory for this"
    return f"the task failed: {type(error).__name__}: {error}"


def _unheard(fraction: float) -> None:
    """Progress is told by the group."""

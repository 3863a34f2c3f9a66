"""Train and evaluate many simulated clients, as fast as this machine can.

    jobs ──in the order given──▶ groups ──▶ workers ──▶ results in the order of the jobs
           ann bob cat dan eve    ann bob cat │ dan eve

How jobs are grouped depends on the jobs and the model alone, so results are the same bit for bit
with any number of workers, of whatever kind.

Where a group is trained in one go, one core does 1.5 times (the phone-and-watch model) to twice
(McMahan's 2NN) what it does in a plain loop over clients. Above a million numbers the arithmetic
itself takes the time, and each is trained alone. `benchmarks/simulation_speed.py` measures it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import msgspec

from fedmqtt.messages import PLAIN, Method, Training
from fedmqtt.weights import Weights
from fleet_sim.training.orders import Answer, Order, TrainJob, Verdict, Workers
from fleet_sim.training.processes import Processes
from learning_tasks.seam import Evaluated, Trained

_log = logging.getLogger(__name__)

_UNTRAINED = Training()

Together = int | Literal["auto"]
Progress = Callable[[float], None]

_GROUP_NUMBERS = 2**20
"""As many weights lie side by side at most: a group's weights and gradients then stay in the cache.
McMahan's 2NN was fastest in groups of 5 to 10, the phone-and-watch model from 10 on."""
_GROUP_MAX = 16
_LARGE_NUMBERS = 2**20
"""From so many numbers on a model is faster on a GPU than on a CPU, in groups."""
_GPU_GROUP_NUMBERS = 2**28


class Trainers:
    """Trainers of one task's clients. `together` is the size of a group, 1: each alone, as the real
    client does to the last bit. With `processes` 0 the work is done in this process."""

    def __init__(
        self,
        task: str,
        data_dir: Path,
        *,
        together: Together = "auto",
        processes: int = 1,
        device: str = "auto",
        workers: Callable[[str, Path, str], Workers] | None = None,
    ) -> None:
        """`workers(task, data_dir, device)`: others than processes of this machine."""
        self._task = task
        self._data_dir = data_dir
        self._together = together
        self._processes = processes
        self._device = device
        self._make = workers
        self._workers: Workers | None = None
        self._verdicts: dict[tuple[Training, Method], Verdict] = {}
        self._said: set[str] = set()

    def train(
        self,
        base: Weights,
        jobs: Sequence[TrainJob],
        training: Training,
        progress: Progress = lambda fraction: None,
        method: Method = PLAIN,
    ) -> list[Trained | str]:
        """In the order of the jobs; a sentence where a client could not be trained.

        Raises `TaskError` where the task itself cannot be loaded.
        """
        size = self._group_size(base, len(jobs))
        asked = (training, method)
        verdict = self._verdicts.get(asked, Verdict())
        if verdict.refusal:
            size = 1
        orders = [
            Order(
                purpose="train",
                jobs=tuple(group),
                training=training,
                method=method,
                together=size > 1,
            )
            for group in _cut(jobs, size)
        ]
        count = 0

        def tell(done: int) -> None:
            progress((count + done) / len(jobs))

        first: list[Answer] = []
        if size > 1 and not verdict.is_checked:
            first = self._try(base, orders, asked, tell)
            count = sum(len(answer.results) for answer in first)
            if orders and self._verdicts[asked].refusal:
                orders = [_alone(order) for order in orders]
        rest = self._run(base, orders[len(first) :], tell)
        results = [result for answer in [*first, *rest] for result in answer.results]
        return cast(list[Trained | str], results)

    def evaluate(
        self,
        weights: Weights,
        clients: Sequence[str | TrainJob],
        progress: Progress = lambda fraction: None,
        training: Training = _UNTRAINED,
        method: Method = PLAIN,
    ) -> list[Evaluated | str]:
        """Each client's measurement on its own held-out data, exactly as the real client's.

        A job in place of a name says more of the client: its own layers, and for fine-tuning, which
        goes by `training`, its seed.
        """
        jobs = [TrainJob(one, 0) if isinstance(one, str) else one for one in clients]
        orders = [
            Order(purpose="evaluate", jobs=tuple(group), training=training, method=method)
            for group in _cut(jobs, 4)
        ]
        answers = self._run(weights, orders, lambda done: progress(done / len(jobs)))
        return cast(list[Evaluated | str], [r for answer in answers for r in answer.results])

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _group_size(self, base: Weights, jobs: int) -> int:
        if self._together != "auto":
            return self._together
        numbers = max(_numbers(base), 1)
        if self._device_for(numbers) == "cuda":
            return max(1, _GPU_GROUP_NUMBERS // numbers)
        most = max(1, min(_GROUP_MAX, _GROUP_NUMBERS // numbers))
        # Equal groups, and at least two, so that two processes have something to do.
        groups = max(-(-jobs // most), min(jobs, 2))
        return max(1, -(-jobs // max(groups, 1)))

    def _try(
        self,
        base: Weights,
        orders: list[Order],
        asked: tuple[Training, Method],
        progress: Callable[[int], None],
    ) -> list[Answer]:
        """Train groups with a check whether they may be groups, until one can say."""
        tried: list[Answer] = []
        count = 0
        for order in orders:
            checked = msgspec.structs.replace(order, check=True)
            tried += self._run(base, [checked], lambda done: None)
            count += len(order.jobs)
            progress(count)
            verdict = self._verdicts[asked] = tried[-1].verdict
            if verdict.refusal or verdict.is_checked:
                break
        return tried

    def _run(
        self, base: Weights, orders: Sequence[Order], progress: Callable[[int], None]
    ) -> list[Answer]:
        if self._workers is None:
            self._workers = self._start(_numbers(base))
        answers = self._workers.run(base, orders, progress)
        for answer in answers:
            if (refusal := answer.verdict.refusal) and refusal not in self._said:
                self._said.add(refusal)
                _log.warning("%s is trained one client at a time: %s", self._task, refusal)
        return answers

    def _start(self, numbers: int) -> Workers:
        device = self._device_for(numbers)
        if self._make is not None:
            return self._make(self._task, self._data_dir, device)
        if self._processes == 0:
            # Imported only here: with processes, this one needs no torch.
            from fleet_sim.training.here import Here

            return Here(self._task, self._data_dir, device)
        return Processes(self._task, self._data_dir, device, self._processes)

    def _device_for(self, numbers: int) -> str:
        if self._device != "auto":
            return self._device
        if numbers < _LARGE_NUMBERS:
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


def _numbers(base: Weights) -> int:
    return sum(array.size for array in base.values())


def _cut(jobs: Sequence[TrainJob], size: int) -> Iterator[Sequence[TrainJob]]:
    for begin in range(0, len(jobs), size):
        yield jobs[begin : begin + size]


def _alone(order: Order) -> Order:
    """The same work, one client after the other."""
    return msgspec.structs.replace(order, together=False)

"""The trainer: a process of its own that does one job after another and ends with its agent.

    stdin: Job ──▶ load model and data ──▶ task.train / task.evaluate ──▶ outbox ──▶ Done: stdout

It alone imports the task, numpy and, where the task does, torch. When it crashes or is killed for
memory the agent lives on. It ends when its stdin does, so it never outlives the agent.
"""

import contextlib
import functools
import hashlib
import mmap
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_client import training_job
from edge_client.outbox import Outbox
from edge_client.session import Answer
from edge_client.training_job import Done, Failed, Job, Progress, Stop
from fedmqtt import codecs, parts, weights
from fedmqtt.messages import Evaluation, Measures, Purpose, Update, encode, encode_pieces
from fedmqtt.weights import Layout, WeightsError
from learning_tasks.loading import load_task
from learning_tasks.seam import Task, TaskError

_PROGRESS_STEP = 0.05
"""The agent hears of progress in steps of this fraction: each is a wake-up on the device."""

DATASETS_KEPT = 64
"""A device has one; a demonstration's trainers are shared by many clients."""


class _Stopped(Exception):
    """The agent no longer wants the answer."""


class _Agent:
    """The agent at the other end of the pipes."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._reader = training_job.Reader()
        self._received: deque[training_job.ToTrainer] = deque()
        self._reported = 0.0

    def next_job(self) -> Job | None:
        """Wait for one; None when the agent is gone."""
        while True:
            while self._received:
                message = self._received.popleft()
                # A Stop that crossed with the end of its job means nothing now.
                if isinstance(message, Job):
                    self._reported = 0.0
                    return message
            if not self._receive():
                return None

    def say(self, message: training_job.FromTrainer) -> None:
        data = training_job.pack(message)
        while data:
            data = data[os.write(self._outgoing, data) :]

    def progress(self, fraction: float) -> None:
        """Called by the task often. Raises _Stopped when the job has become pointless."""
        while select.select([self._incoming], [], [], 0)[0]:
            if not self._receive():
                raise _Stopped
        if any(isinstance(message, Stop) for message in self._received):
            raise _Stopped
        if fraction - self._reported >= _PROGRESS_STEP:
            self._reported = fraction
            self.say(Progress(fraction=fraction))

    def _receive(self) -> bool:
        data = os.read(self._incoming, 65536)
        self._reader.feed(data)
        self._received.extend(self._reader.to_trainer())
        return bool(data)


def run(agent: _Agent) -> None:
    """Do jobs until the agent is gone."""
    while (job := agent.next_job()) is not None:
        try:
            answer = work(job, agent.progress)
        except _Stopped:
            agent.say(Failed(reason=training_job.STOPPED))
        except (TaskError, WeightsError, OSError, MemoryError) as bad:
            agent.say(Failed(reason=str(bad) or type(bad).__name__))
        else:
            agent.say(Done(round=answer.round, digest=answer.digest, size_bytes=answer.size_bytes))


def work(job: Job, progress: Callable[[float], None]) -> Answer:
    """Do one job, leaving the answer in the outbox. `progress` may raise, to end it early.

    Raises TaskError, WeightsError or OSError, each with a sentence for the device's owner.
    """
    with Path(job.model_path).open("rb") as file:
        # Mapped, not read: the numbers are used where the system keeps the file.
        layout, base = weights.read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if job.purpose == "evaluate":
        measures = _measure(job, layout, base)
        answer = Evaluation(round=job.round, base=job.base, measures=measures)
        return Outbox(Path(job.outbox)).put(job.round, [encode(answer)])
    update = _train(job, layout, base, progress)
    return Outbox(Path(job.outbox)).put(job.round, encode_pieces(update))


def _train(
    job: Job, layout: Layout, base: weights.Array, progress: Callable[[float], None]
) -> Update:
    measures = _measure(job, layout, base) if job.measure_base else None
    data = _data(job.task, job.data_dir, job.client, "train")
    trained = _task(job.task).train(
        layout.unflatten(base), data, job.training, _seed_of(job), progress
    )
    change = layout.flatten(trained.weights) - base
    return Update(
        round=job.round,
        base=job.base,
        fingerprint=layout.fingerprint,
        sample_count=trained.sample_count,
        codec=job.codec,
        metrics=trained.metrics,
        measures=measures,
        payload=parts.load(codecs, job.codec).encode(change),
    )


def _measure(job: Job, layout: Layout, base: weights.Array) -> Measures:
    data = _data(job.task, job.data_dir, job.client, "evaluate")
    found = _task(job.task).evaluate(layout.unflatten(base), data)
    return Measures(
        sample_count=found.sample_count,
        metrics=found.metrics,
        confusion=None if found.confusion is None else tuple(map(tuple, found.confusion)),
    )


@functools.lru_cache(maxsize=4)
def _task(name: str) -> Task:
    task = load_task(name)
    if "torch" in sys.modules:
        # One thread per trainer: the device has other things to do, and small models gain nothing.
        sys.modules["torch"].set_num_threads(1)
    return task


@functools.lru_cache(maxsize=DATASETS_KEPT)
def _data(task: str, data_dir: str, client: str, purpose: Purpose) -> Any:
    return _task(task).load_data(Path(data_dir), client, purpose)


def _seed_of(job: Job) -> int:
    """Of this client in this round, in 0 .. 2^63 - 1: no two share their chance."""
    text = f"{job.seed}/{job.client}/{job.round}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def main() -> int:
    # The task may print. Its words go to the log; the pipe is for the agent alone.
    outgoing = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # A broken pipe: the agent was killed while we trained, and nobody wants the answer.
    with contextlib.suppress(BrokenPipeError):
        run(_Agent(sys.stdin.fileno(), outgoing))
    return 0


if __name__ == "__main__":
    sys.exit(main())

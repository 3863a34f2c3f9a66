"""The trainer: a process of its own that does one job after another and ends with its agent.

    stdin: Job ──▶ load model and data ──▶ task.train / task.evaluate ──▶ outbox ──▶ Done: stdout

It alone imports the task, numpy and, where the task does, torch. When it crashes or is killed for
memory the agent lives on. It ends when its stdin does, so it never outlives the agent.
"""

import contextlib
import functools
import hashlib
import io
import mmap
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from edge_client import describing, training_job
from edge_client.outbox import Outbox
from edge_client.session import Answer
from edge_client.training_job import Done, Failed, Job, Progress, Stop
from fedmqtt import codec_chain, codec_chance, weights
from fedmqtt.messages import (
    CLASSES_MAX,
    Evaluation,
    Measures,
    Purpose,
    Update,
    encode,
    encode_pieces,
)
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Layout, WeightsError
from learning_tasks import features
from learning_tasks.loading import load_task
from learning_tasks.seam import Evaluated, Task, TaskError, Trained

_PROGRESS_STEP = 0.05
"""The agent hears of progress in steps of this fraction: each is a wake-up on the device."""


class _Stopped(Exception):
    """The agent no longer wants the answer."""


class _Agent:
    """The agent at the other end of the pipes, heard by a thread of its own.

    A task may compute for hours without a call of `progress`. The thread notices all the same when
    the agent has gone, and ends the process.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._is_busy = False
        self._is_stopped = False
        self._reported = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def next_job(self) -> Job | None:
        """Wait for one; None when the agent is gone."""
        self._is_busy = False
        job = self._jobs.get()
        self._is_busy = job is not None
        self._reported = 0.0
        return job

    def say(self, message: training_job.FromTrainer) -> None:
        data = training_job.pack(message)
        while data:
            data = data[os.write(self._outgoing, data) :]

    def progress(self, fraction: float) -> None:
        """Called by the task often. Raises _Stopped when the job has become pointless."""
        if self._is_stopped:
            raise _Stopped
        if fraction - self._reported >= _PROGRESS_STEP:
            self._reported = fraction
            self.say(Progress(fraction=fraction))

    def _listen(self) -> None:
        reader = training_job.Reader()
        while data := os.read(self._incoming, 65536):
            reader.feed(data)
            for message in reader.to_trainer():
                # A Stop that crossed with the end of its job means nothing to the next one.
                self._is_stopped = isinstance(message, Stop)
                if isinstance(message, Job):
                    self._jobs.put(message)
        if self._is_busy:
            os._exit(0)
        self._jobs.put(None)


def run(agent: _Agent) -> None:
    """Do jobs until the agent is gone."""
    while (job := agent.next_job()) is not None:
        try:
            answer = work(job, agent.progress)
        except _Stopped:
            agent.say(Failed(reason=training_job.STOPPED))
        except (TaskError, WeightsError, SettingsError) as bad:
            agent.say(Failed(reason=str(bad)))
        except MemoryError:
            agent.say(Failed(reason="the device has not enough memory for this"))
        except Exception as bad:
            # The task is its owner's program: it can raise anything at all, and the next may do.
            traceback.print_exc()
            agent.say(Failed(reason=f"the task failed: {type(bad).__name__}: {bad}"))
        else:
            agent.say(
                Done(
                    run=answer.run,
                    round=answer.round,
                    digest=answer.digest,
                    size_bytes=answer.size_bytes,
                )
            )


def work(job: Job, progress: Callable[[float], None]) -> Answer:
    """Do one job, leaving the answer in the outbox. `progress` may raise, to end it early.

    Raises TaskError, WeightsError or SettingsError with a sentence for the device's owner, and
    whatever the task does.
    """
    with Path(job.model_path).open("rb") as file:
        # Mapped, not read: the numbers are used where the system keeps the file.
        layout, base = weights.read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if job.purpose == "evaluate":
        found = _measure(job, layout, base)
        answer = Evaluation(run=job.run, round=job.round, base=job.base, measures=found)
        return _keep(job, [encode(answer)])
    if job.purpose == "describe":
        return _keep(job, encode_pieces(_describe(job, layout, base)))
    return _keep(job, encode_pieces(_train(job, layout, base, progress)))


def _keep(job: Job, pieces: Iterable[bytes | memoryview]) -> Answer:
    try:
        return Outbox(Path(job.outbox)).put(job.run, job.round, pieces)
    except OSError as bad:
        raise TaskError(f"the answer cannot be kept in {job.outbox}: {bad.strerror}") from bad


def _train(
    job: Job, layout: Layout, base: weights.Array, progress: Callable[[float], None]
) -> Update:
    # Now, not after hours of training.
    codec_chain.read(job.codec)
    measured = _measure(job, layout, base) if job.measure_base else None
    data = _data(job.task, job.data_dir, job.client, "train")
    trained = _task(job.task).train(
        layout.unflatten(base), data, job.training, seed_of(job), progress
    )
    return update(job, layout, base, trained, measured)


def _describe(job: Job, layout: Layout, base: weights.Array) -> Update:
    task = _task(job.task)
    # What the device learns from is what it describes.
    data = _data(job.task, job.data_dir, job.client, "train")
    return description(job, layout, base, task, data)


def description(job: Job, layout: Layout, base: weights.Array, task: Task, data: Any) -> Update:
    """What the client sends of its data, as `load_data` gave it, to the questions in `base`.

    Raises TaskError where that cannot be summed up.
    """
    named, values = features.named(task), features.values(task, data)
    sums, samples = describing.answer(layout.unflatten(base), named, values)
    return _packed(job, layout, sums, samples)


def update(
    job: Job, layout: Layout, base: weights.Array, trained: Trained, measures: Measures | None
) -> Update:
    """What the client sends: how far training moved the model, and what it measured.

    Raises TaskError where that cannot be sent.
    """
    change = layout.flatten(trained.weights) - base
    return _packed(job, layout, change, trained.sample_count, trained.metrics, measures)


def _packed(
    job: Job,
    layout: Layout,
    change: weights.Array,
    samples: int,
    metrics: dict[str, float] | None = None,
    measures: Measures | None = None,
) -> Update:
    chances = codec_chance.of_answer(job.seed, job.round, job.client)
    try:
        payload = codec_chain.read(job.codec).encode(change, chances)
    except ValueError as bad:
        raise TaskError(f"what training changed cannot be sent: it {bad}") from bad
    return Update(
        run=job.run,
        round=job.round,
        base=job.base,
        fingerprint=layout.fingerprint,
        sample_count=samples,
        codec=job.codec,
        metrics=metrics or {},
        measures=measures,
        payload=memoryview(payload),
    )


def _measure(job: Job, layout: Layout, base: weights.Array) -> Measures:
    data = _data(job.task, job.data_dir, job.client, "evaluate")
    return measures(_task(job.task).evaluate(layout.unflatten(base), data), job.label)


def measures(found: Evaluated, label: str) -> Measures:
    """What the client tells of what it measured."""
    return Measures(
        sample_count=found.sample_count,
        metrics=found.metrics,
        confusion=_confusion(found),
        label=label,
    )


def _confusion(found: Evaluated) -> tuple[tuple[int, ...], ...] | None:
    if found.confusion is None or len(found.confusion) > CLASSES_MAX:
        return None
    return tuple(map(tuple, found.confusion))


@functools.lru_cache(maxsize=4)
def _task(name: str) -> Task:
    task = load_task(name)
    if "torch" in sys.modules:
        # One thread per trainer: the device has other things to do, and small models gain nothing.
        sys.modules["torch"].set_num_threads(1)
    return task


def _data(task: str, data_dir: str, client: str, purpose: Purpose) -> Any:
    return _task(task).load_data(Path(data_dir), client, purpose)


def seed_of(job: Job) -> int:
    """Of this client in this round, in 0 .. 2^63 - 1: no two share their chance."""
    text = f"{job.seed}/{job.client}/{job.round}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def main() -> NoReturn:
    # The task may print. Its words go to the log; the pipe is for the agent alone.
    outgoing = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    # A broken pipe: the agent was killed while we trained, and nobody wants the answer.
    with contextlib.suppress(BrokenPipeError):
        run(_Agent(sys.stdin.fileno(), outgoing))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not `return`: Python would wait for threads that the task left behind.
    os._exit(0)


if __name__ == "__main__":
    main()

"""The trainer: a process of its own that does one job after another and ends with its agent.

    stdin: Job ──▶ load model and data ──▶ task.train / task.evaluate ──▶ outbox ──▶ Done: stdout

It alone imports the task, numpy and, where the task does, torch. When it crashes or is killed for
memory the agent lives on. It ends when its stdin does, so it never outlives the agent.
"""

import contextlib
import ctypes
import functools
import hashlib
import io
import math
import mmap
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from msgspec import UNSET, UnsetType, structs

from edge_client import (
    control_variates,
    describing,
    local_methods,
    local_training,
    masked_answer,
    personal_layers,
    remembered,
    training_job,
)
from edge_client.batch_count import BatchCount
from edge_client.control_variates import Control
from edge_client.device_memory import DeviceMemory
from edge_client.outbox import Outbox
from edge_client.rebuild import RebuildError, rebuild
from edge_client.remembered import Remembered
from edge_client.session import Answer
from edge_client.training_job import (
    Done,
    Failed,
    Job,
    PipeError,
    Rebuild,
    Rebuilt,
    Stop,
)
from fedmqtt import __version__, codec_chain, codec_chance, control, personal, weights
from fedmqtt.messages import (
    CLASSES_MAX,
    Device,
    Evaluation,
    Measures,
    Purpose,
    Update,
    WireError,
    encode,
    encode_pieces,
    method_name,
    read_from_client,
)
from fedmqtt.personal import Division
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Layout, WeightsError
from learning_tasks import features
from learning_tasks.loading import load_task
from learning_tasks.seam import Evaluated, Task, TaskError, Trained
from learning_tasks.seam import Progress as Heard

_PR_SET_PDEATHSIG = 1
"""Of `prctl` in linux/prctl.h."""
_PROGRESS_STEP = 0.05
"""The agent hears of progress in steps of this fraction, and each `Job.report_s`: each is a wake-up
on the device."""


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
        self._jobs: queue.SimpleQueue[Job | Rebuild | None] = queue.SimpleQueue()
        self._is_busy = False
        self._is_gone = False
        self._is_stopped = False
        self._reported, self._reported_at = 0.0, -math.inf
        self._report_s = math.inf
        self._batches = BatchCount(0)
        threading.Thread(target=self._listen, daemon=True).start()

    def next_job(self) -> Job | Rebuild | None:
        """Wait for one; None when the agent is gone."""
        self._is_busy = False
        job = self._jobs.get()
        self._is_busy = job is not None
        self._reported, self._reported_at = 0.0, -math.inf
        if isinstance(job, Job):
            self._report_s = job.report_s
            is_local_sgd = job.purpose == "train" and job.method.sends == "change"
            self._batches = BatchCount(job.training.epochs if is_local_sgd else 0)
        # It may have been killed right after it gave us this, as while we were starting. The thread
        # says so first and looks whether we are busy then: one of both sees the other.
        return None if self._is_gone else job

    def say(self, message: training_job.FromTrainer) -> None:
        data = training_job.pack(message)
        while data:
            data = data[os.write(self._outgoing, data) :]

    def progress(self, fraction: float) -> None:
        """Called by the task often. Raises _Stopped when the job has become pointless."""
        if self._is_stopped:
            raise _Stopped
        counted = self._batches.heard(fraction)
        now = time.monotonic()
        is_step = fraction - self._reported >= _PROGRESS_STEP
        if is_step or (fraction > self._reported and now >= self._reported_at + self._report_s):
            self._reported, self._reported_at = fraction, now
            self.say(structs.replace(counted, fraction=fraction))

    def _listen(self) -> None:
        # Whoever says what is no message is not our agent.
        with contextlib.suppress(PipeError):
            self._take_orders()
        self._is_gone = True
        if self._is_busy:
            os._exit(0)
        self._jobs.put(None)

    def _take_orders(self) -> None:
        """Until the agent has gone."""
        reader = training_job.Reader()
        while data := os.read(self._incoming, 65536):
            reader.feed(data)
            for message in reader.to_trainer():
                # A Stop that crossed with the end of its job means nothing to the next one.
                self._is_stopped = isinstance(message, Stop)
                if not isinstance(message, Stop):
                    self._jobs.put(message)


def run(agent: _Agent) -> None:
    """Do jobs until the agent is gone."""
    while (job := agent.next_job()) is not None:
        try:
            if isinstance(job, Rebuild):
                rebuild(job)
                agent.say(Rebuilt())
                continue
            answer = work(job, agent.progress)
        except _Stopped:
            agent.say(Failed(reason=training_job.STOPPED))
        except (TaskError, WeightsError, SettingsError, RebuildError) as bad:
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


def work(job: Job, progress: Heard) -> Answer:
    """Do one job, leaving the answer in the outbox. `progress` may raise, to end it early.

    Raises TaskError, WeightsError or SettingsError with a sentence for the device's owner, and
    whatever the task does.
    """
    try:
        with Path(job.model_path).open("rb") as file:
            # Mapped, not read: the numbers are used where the system keeps the file.
            read = weights.read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as bad:
        # Taken away while the job was on its way here: its round is over.
        raise TaskError(f"the model {job.model_path} is not there any more") from bad
    layout, base, published = control.split(*read)
    if layout.fingerprint != job.fingerprint:
        # It is by this that the owner's agent took it for a model to train.
        wanted = f"as it was offered ({job.fingerprint})"
        raise TaskError(f"the model is not built {wanted}: its fingerprint is {layout.fingerprint}")
    if job.purpose == "describe":
        assert job.mask is None, "sums of one client's data have no mask"
        return _keep(job, encode_pieces(_describe(job, layout, base)))
    division = personal.division(layout, job.method.personal)
    base = division.with_personal(base, _own_layers(job, division))
    if job.purpose == "evaluate":
        found = _measure(job, division, base, progress)
        answer = Evaluation(run=job.run, round=job.round, base=job.base, measures=found)
        _check_readable(answer)
        return _keep(job, [encode(answer)])
    trained, memory = _train(job, division, base, published, progress)
    _check_readable(trained)
    return _keep(job, encode_pieces(trained), memory)


def _check_readable(answer: Update | Evaluation) -> None:
    """Raises TaskError on an answer that no coordinator can read, as of a loss that is a text: it
    would be sent again and again."""
    is_update = isinstance(answer, Update)
    header = structs.replace(answer, payload=memoryview(b"")) if is_update else answer
    try:
        read_from_client(encode(header))
    except WireError as bad:
        raise TaskError(f"what the task tells of its work cannot be sent: {bad}") from bad


def _own_layers(job: Job, division: Division) -> weights.Array | None:
    if not division.names:
        return None
    # Who only measures changes none of them, and knows them better than the model's first values.
    read = personal_layers.read_newest if job.purpose == "evaluate" else personal_layers.read
    try:
        return read(Path(job.memory), job.run, division)
    except OSError as bad:
        raise TaskError(f"the layers in {job.memory} cannot be read: {bad.strerror}") from bad


def _keep(
    job: Job, pieces: Iterable[bytes | memoryview], memory: Remembered | None = None
) -> Answer:
    try:
        outbox = Outbox(Path(job.outbox))
        if memory is None:
            return outbox.put(job.run, job.round, pieces)
        if outbox.has(job.run, job.round):
            # Nobody could tell later which of the two was counted.
            raise TaskError(f"round {job.round} is answered already")
        device = DeviceMemory(Path(job.memory))
        answer = outbox.put(
            job.run, job.round, pieces, lambda named: remembered.keep(device, named, memory)
        )
        # Before it is sent: an answer that counts, and of which a loss of power leaves nothing
        # here, would be remembered there alone.
        outbox.settle(answer)
    except OSError as bad:
        raise TaskError(f"the answer cannot be kept in {job.outbox}: {bad.strerror}") from bad
    else:
        return answer


def _train(
    job: Job,
    division: Division,
    base: weights.Array,
    published: weights.Array | None,
    progress: Heard,
) -> tuple[Update, Remembered | None]:
    # Now, not after hours of training.
    codec_chain.read(job.codec)
    measured = _measure_beside(job, division, base, progress) if job.measure_base else None
    data = _data(job.task, job.data_dir, job.client, "train")
    begun = control_variates.begin(job, division, published, _remembered(job))
    trained = local_training.train(
        _task(job.task),
        division.layout.unflatten(base),
        data,
        job.training,
        job.method,
        seed_of(job),
        _within(job, progress),
        None if begun is None else begun.correction(division, job.training.learning_rate),
    )
    # Only now: a receipt that came meanwhile has changed it.
    made = update(job, division, base, trained, measured, _remembered(job), begun)
    if division.names:
        _keep_own_layers(job, division, own_layers(division, base, trained, job))
    return made


def _remembered(job: Job) -> Remembered:
    if not local_methods.remembers(job.method, job.codec):
        return remembered.NOTHING
    try:
        return remembered.read(DeviceMemory(Path(job.memory)), job.run)
    except OSError as bad:
        raise TaskError(f"what is remembered in {job.memory}: {bad.strerror}") from bad


def _within(job: Job, progress: Heard) -> Heard:
    """`progress`, that has enough when the job's time or steps are used up."""
    if job.stop_at < math.inf:
        progress = local_training.until(job.stop_at, progress)
    return local_training.for_steps(job.steps_max, progress) if job.steps_max else progress


def _keep_own_layers(job: Job, division: Division, flat: weights.Array) -> None:
    try:
        personal_layers.keep(Path(job.memory), job.run, division, flat)
    except OSError as bad:
        raise TaskError(f"the layers cannot be kept in {job.memory}: {bad.strerror}") from bad


def own_layers(
    division: Division, base: weights.Array, trained: Trained, job: Job
) -> weights.Array:
    """What training made of the layers that stay on the device, shape (personal.size,)."""
    found = division.personal_of(division.layout.flatten(trained.weights))
    if job.method.sends == "change":
        return found
    # Of these the step is taken here, with the clients' own rate; running statistics are taken
    # as they have become.
    rate, whole = np.float32(job.training.learning_rate), np.float32(1)
    for name, step in division.personal.unflatten(found).items():
        step *= whole if name in trained.statistics else rate
    return division.personal_of(base) - found


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
    chances = codec_chance.of_answer(job.seed, job.round, job.client)
    return Update(
        run=job.run,
        round=job.round,
        base=job.base,
        fingerprint=layout.fingerprint,
        sample_count=samples,
        codec=job.codec,
        payload=memoryview(codec_chain.read(job.codec).encode(sums, chances, layout.shapes)),
    )


def update(
    job: Job,
    division: Division,
    base: weights.Array,
    trained: Trained,
    measures: Measures | None,
    before: Remembered = remembered.NOTHING,
    begun: Control | None = None,
) -> tuple[Update, Remembered | None]:
    """What the client sends, and what it remembers once that is counted, if anything.

    How far training moved what is shared of the model, or would move it, and what was measured.
    `base` has the device's own layers in it; `before` is what it remembers so far, and `begun` its
    control when training began, where it has one.

    Raises TaskError where that cannot be sent.
    """
    shared = shared_change(job, division, base, trained)
    fingerprint = division.layout.fingerprint
    if job.mask is not None:
        return masked_answer.update(job, job.mask, fingerprint, shared, trained, measures), None
    own = None if begun is None else begun.after(division, shared, trained)
    try:
        outgoing = local_methods.encode(job, shared, before, division.shared.shapes, own)
    except ValueError as bad:
        raise TaskError(f"what training changed cannot be sent: it {bad}") from bad
    answer = Update(
        run=job.run,
        round=job.round,
        base=job.base,
        fingerprint=fingerprint,
        sample_count=trained.sample_count,
        codec=job.codec,
        metrics=trained.metrics,
        measures=measures,
        method=method_name(job.training, job.method),
        steps=trained.steps,
        base_loss=trained.base_loss,
        since=outgoing.since,
        whole=outgoing.whole,
        interval=outgoing.interval,
        device=_device(job),
        payload=memoryview(outgoing.payload),
    )
    return answer, outgoing.remembered


def _device(job: Job) -> Device | UnsetType:
    program = f"fedmqtt {__version__}"
    return Device(program=program, label=job.label) if job.tells_device else UNSET


def shared_change(
    job: Job, division: Division, base: weights.Array, trained: Trained
) -> weights.Array:
    """How far training moved what is shared of the model, or would move it; shape (size,)."""
    found = division.layout.flatten(trained.weights)
    # A gradient travels as the change that a step with rate 1 makes.
    change = -found if job.method.sends == "gradient" else found - base
    return division.shared_of(change)


def _measure_beside(
    job: Job, division: Division, base: weights.Array, progress: Heard
) -> Measures | None:
    """Before training. None where the answer is masked and there is nothing to measure with."""
    try:
        found = _measure(job, division, base, progress)
        if job.mask is not None:
            # No coordinator will see that it cannot be read.
            _check_readable(Evaluation(run=job.run, round=job.round, base=job.base, measures=found))
    except TaskError as bad:
        if job.mask is None:
            raise
        # All that train are asked, and told by nobody apart: this one's change counts all the same.
        sys.stderr.write(f"round {job.round} is not measured: {bad}\n")
        return None
    return found


def _measure(job: Job, division: Division, base: weights.Array, progress: Heard) -> Measures:
    data = _data(job.task, job.data_dir, job.client, "evaluate")
    found = local_training.evaluate(
        _task(job.task),
        division.layout.unflatten(base),
        data,
        job.training,
        job.method,
        seed_of(job),
        lambda: _data(job.task, job.data_dir, job.client, "train"),
        progress,
    )
    return measures(found, job.label)


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


def _end_with_agent() -> None:
    """Where the system can be asked to: Linux kills us when our agent has ended.

    Beside the thread that listens, which cannot act while a task's own code holds the interpreter.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> NoReturn:
    _end_with_agent()
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

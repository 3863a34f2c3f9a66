"""Trainer processes, started when there is work and ended when there is none.

A device has one. It starts when a round is accepted and ends after it, or stays warm for a while
(importing torch takes seconds on a Raspberry Pi). A demonstration's clients share a few.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from edge_client import training_job
from edge_client.device_memory import DeviceMemory
from edge_client.outbox import Outbox
from edge_client.session import Answer
from edge_client.training_job import Done, Failed, FromTrainer, Job, Progress, Rebuild
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer

STOP_GRACE_S = 5.0
"""How long a trainer may take to notice that its job was stopped, before it is killed."""

Report = Callable[[FromTrainer], None]
"""Called with each Progress, and last with Done, Rebuilt or Failed. Not called after `cancel`."""


@dataclass(eq=False, slots=True)
class Ticket:
    """One job on its way through the pool."""

    job: Job | Rebuild
    report: Report | None


@dataclass(eq=False, slots=True)
class _Trainer:
    process: subprocess.Popen[bytes]
    reader: training_job.Reader = field(default_factory=training_job.Reader)
    ticket: Ticket | None = None
    timer: Timer | None = None
    """When idle: ends it. When its job is cancelled: kills it."""
    is_ending: bool = False
    fault: str = ""
    """What it was killed for."""


class TrainerPool:
    """`size` jobs at a time, at low priority; of those that wait the short ones first, then any.

    Not in order of arrival: where clients share a pool, the same ones would always come first, and
    a round that is complete without the last would never hear those.
    """

    def __init__(
        self,
        loop: EventLoop,
        size: int = 1,
        keep_warm_s: Seconds = 0.0,
        nice: int = 10,
        stop_grace_s: Seconds = STOP_GRACE_S,
    ) -> None:
        self._loop = loop
        self._size = size
        self._keep_warm_s = keep_warm_s
        self._nice = nice
        self._stop_grace_s = stop_grace_s
        self._trainers: list[_Trainer] = []
        self._queue: list[Ticket] = []
        self._chance = Random(0)

    def submit(self, job: Job | Rebuild, report: Report) -> Ticket:
        ticket = Ticket(job, report)
        self._queue.append(ticket)
        self._assign()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """The answer is no longer wanted. Its report is not called any more."""
        ticket.report = None
        if ticket in self._queue:
            self._queue.remove(ticket)
            return
        for trainer in self._trainers:
            if trainer.ticket is ticket:
                self._write(trainer, training_job.pack(training_job.Stop()))
                self._forget_timer(trainer)
                trainer.timer = self._loop.call_in(self._stop_grace_s, trainer.process.kill)

    def close(self) -> None:
        """End all trainers now. No report is called any more."""
        self._queue.clear()
        for trainer in self._trainers:
            if trainer.ticket is not None:
                trainer.ticket.report = None
            self._forget_timer(trainer)
            trainer.process.kill()
            self._wait_for(trainer)
        self._trainers.clear()

    def _assign(self) -> None:
        while self._queue:
            try:
                trainer = self._idle()
            except OSError as bad:
                self._refuse(self._draw(), f"the trainer cannot be started: {bad.strerror}")
                continue
            if trainer is None:
                return
            self._forget_timer(trainer)
            trainer.ticket = self._draw()
            self._write(trainer, training_job.pack(trainer.ticket.job))

    def _draw(self) -> Ticket:
        # Those take a fraction of a training's time. No round waits for evaluations, and who makes
        # a model has not begun.
        short = [ticket for ticket in self._queue if _is_short(ticket.job)]
        ticket = self._chance.choice(short or self._queue)
        self._queue.remove(ticket)
        return ticket

    def _idle(self) -> _Trainer | None:
        for trainer in self._trainers:
            if trainer.ticket is None and not trainer.is_ending:
                return trainer
        return self._start() if len(self._trainers) < self._size else None

    def _start(self) -> _Trainer:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_client.trainer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # Ctrl-C is for the agent, which ends its trainers itself.
            start_new_session=True,
        )
        trainer = _Trainer(process)
        self._lower_priority(process.pid)
        assert process.stdout is not None
        self._loop.watch(process.stdout.fileno(), lambda _readable, _writable: self._read(trainer))
        self._trainers.append(trainer)
        return trainer

    def _lower_priority(self, pid: int) -> None:
        # Who is nicer already may not become less so, and need not.
        nice = max(self._nice, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, pid, nice)

    def _write(self, trainer: _Trainer, data: bytes) -> None:
        assert trainer.process.stdin is not None
        try:
            # Far less than a pipe holds, so it is taken whole.
            trainer.process.stdin.write(data)
        except BrokenPipeError:
            # It has just died: `_read` hears of it and tells whose job it was.
            return

    def _read(self, trainer: _Trainer) -> None:
        assert trainer.process.stdout is not None
        data = os.read(trainer.process.stdout.fileno(), 65536)
        if not data:
            self._bury(trainer)
            return
        try:
            trainer.reader.feed(data)
            for message in trainer.reader.from_trainer():
                self._take(trainer, message)
        except training_job.PipeError as bad:
            # Where its next message begins cannot be known. Its end is heard of here.
            trainer.fault = f"the trainer's pipe was written to by somebody else: {bad}"
            trainer.process.kill()

    def _take(self, trainer: _Trainer, message: FromTrainer) -> None:
        ticket = trainer.ticket
        if ticket is None:
            return
        if not isinstance(message, Progress):
            trainer.ticket = None
            self._forget_timer(trainer)
            self._rest(trainer)
        if ticket.report is not None:
            ticket.report(message)
        elif isinstance(message, Done) and isinstance(ticket.job, Job):
            # Finished in the moment in which it was cancelled: nobody will send it.
            forget_unsent(ticket.job, message)

    def _rest(self, trainer: _Trainer) -> None:
        if self._queue:
            self._assign()
        else:
            trainer.timer = self._loop.call_in(self._keep_warm_s, lambda: self._end(trainer))

    def _end(self, trainer: _Trainer) -> None:
        # Its stdin ends, then it does, and `_read` hears of it: nobody waits for it here.
        trainer.is_ending = True
        assert trainer.process.stdin is not None
        trainer.process.stdin.close()
        # A thread that the task left behind would keep it, and its place in the pool, for ever.
        trainer.timer = self._loop.call_in(self._stop_grace_s, trainer.process.kill)

    def _bury(self, trainer: _Trainer) -> None:
        self._forget_timer(trainer)
        self._trainers.remove(trainer)
        code = self._wait_for(trainer)
        reason = trainer.fault or _cause_of_death(code)
        if trainer.ticket is not None and trainer.ticket.report is not None:
            trainer.ticket.report(Failed(reason=reason))
        self._assign()

    def _wait_for(self, trainer: _Trainer) -> int:
        assert trainer.process.stdin is not None and trainer.process.stdout is not None
        self._loop.unwatch(trainer.process.stdout.fileno())
        trainer.process.stdin.close()
        trainer.process.stdout.close()
        return trainer.process.wait()

    def _refuse(self, ticket: Ticket, reason: str) -> None:
        # Posted: who submits a job does not expect to hear of it within that call.
        def report() -> None:
            if ticket.report is not None:
                ticket.report(Failed(reason=reason))

        self._loop.post(report)

    def _forget_timer(self, trainer: _Trainer) -> None:
        if trainer.timer is not None:
            trainer.timer.cancel()
            trainer.timer = None


def _is_short(job: Job | Rebuild) -> bool:
    return isinstance(job, Rebuild) or job.purpose == "evaluate"


def forget_unsent(job: Job, done: Done) -> None:
    """Remove an answer that nobody will send, and what was to be remembered with it."""
    answer = Answer(done.run, done.round, done.digest, done.size_bytes)
    try:
        Outbox(Path(job.outbox)).forget(answer)
        if job.memory:
            DeviceMemory(Path(job.memory)).drop(answer)
    except OSError as bad:
        # The next life finds it, and its coordinator says whether it still counts.
        logging.getLogger(f"client.{job.client}").error("outbox: %s", bad)


def _cause_of_death(code: int) -> str:
    if code >= 0:
        return f"the trainer ended with exit code {code}; its log says why"
    name = signal.Signals(-code).name
    hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"the trainer was killed by {name}{hint}"

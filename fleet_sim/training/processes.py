"""Workers as processes of this machine: started once, fed orders, replaced when they die."""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from fedmqtt.weights import Layout, Weights, layout_of
from fleet_sim.training.orders import Answer, Order, Piece, Result, open_answers
from fleet_sim.training.worker import (
    Errand,
    InMemory,
    Measured,
    Memory,
    Missing,
    Report,
    read_frame,
    write_frame,
)
from learning_tasks.seam import Evaluated, TaskError, Trained

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    file: BinaryIO
    memory: Memory
    piece: Piece | None = None


class Processes:
    """`count` processes for one task. They start with the first work and stay until `close`."""

    def __init__(self, task: str, data_dir: Path, device: str, count: int) -> None:
        self._words = (task, str(data_dir), device)
        self._count = count
        self._workers: list[_Worker] = []

    def run(
        self, base: Weights, orders: Sequence[Order], progress: Callable[[int], None]
    ) -> list[Answer]:
        """Raises `TaskError` where the task cannot be loaded."""
        layout = layout_of(base)
        answers = open_answers(orders)
        waiting = deque(Piece(order, i) for i, order in enumerate(orders))
        done = 0
        try:
            while waiting or self._busy():
                # All of them, also for little work: importing torch takes seconds, and they can do
                # it at the same time.
                while orders and len(self._workers) < self._count:
                    self._start()
                for worker in self._workers:
                    if waiting and worker.piece is None:
                        self._give(worker, waiting.popleft(), layout, base)
                for worker in self._readable():
                    piece, again, report = self._hear(worker)
                    waiting.extendleft(again)
                    if report is None:
                        continue
                    found = [
                        _result(kept, layout, worker.memory, row + 1)
                        for row, kept in enumerate(report.results)
                    ]
                    piece.put(answers, found, report.verdict)
                    done += len(report.results)
                    progress(done)
        except BaseException:
            # Their answers would be taken for those to the next orders.
            self.close()
            raise
        return answers

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            _let_go(worker)
        self._workers.clear()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.piece is not None]

    def _start(self) -> None:
        file = _shared_file()
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet_sim.training.worker", *self._words, str(file.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(file.fileno(),),
            # Ctrl-C is for this process, which ends its workers itself.
            start_new_session=True,
        )
        self._workers.append(_Worker(process, file, Memory(file.fileno())))

    def _give(self, worker: _Worker, piece: Piece, layout: Layout, base: Weights) -> None:
        worker.piece = piece
        worker.memory.reserve(layout, 1 + len(piece.order.jobs))
        worker.memory.put(layout, 0, base)
        assert worker.process.stdin is not None
        try:
            write_frame(cast(BinaryIO, worker.process.stdin), Errand(piece.order, layout.tensors))
        except BrokenPipeError:
            # It has just died: its end of the other pipe says so too.
            return

    def _readable(self) -> list[_Worker]:
        """Workers that have answered, or died. Waits until there is one."""
        with selectors.DefaultSelector() as selector:
            for worker in self._busy():
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            return [key.data for key, _ in selector.select()]

    def _hear(self, worker: _Worker) -> tuple[Piece, list[Piece], Report | None]:
        """What the worker had to do, what is to be done again, and its report, if it is final."""
        piece, worker.piece = worker.piece, None
        assert piece is not None, "only workers with work are listened to"
        assert worker.process.stdout is not None
        report = read_frame(cast(BinaryIO, worker.process.stdout), Report)
        if report is None:
            if again := self._bury(worker, piece):
                return piece, again, None
            report = Report([Missing(_cause_of_death(worker)) for _ in piece.order.jobs])
        if report.unusable:
            raise TaskError(report.unusable)
        return piece, [], report

    def _bury(self, worker: _Worker, piece: Piece) -> list[Piece]:
        """The work that another process shall do instead."""
        self._workers.remove(worker)
        _let_go(worker)
        again = piece.after_a_death()
        if again:
            _log.warning("%s; its work is done again by another", _cause_of_death(worker))
        return again


def _result(
    kept: InMemory | Measured | Missing, layout: Layout, memory: Memory, row: int
) -> Result:
    match kept:
        case InMemory(sample_count, metrics, steps, base_loss, corrected, statistics):
            weights = memory.get(layout, row)
            return Trained(weights, sample_count, metrics, steps, base_loss, corrected, statistics)
        case Measured(sample_count, metrics, confusion):
            return Evaluated(sample_count, metrics, confusion)
        case Missing(reason):
            return reason


def _shared_file() -> BinaryIO:
    """A file that has no name: it is gone with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fedmqtt-training"), "r+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _let_go(worker: _Worker) -> None:
    assert worker.process.stdin is not None and worker.process.stdout is not None
    worker.process.stdout.close()
    # What it did not read any more is lost with it.
    with contextlib.suppress(BrokenPipeError):
        worker.process.stdin.close()
    worker.process.wait()
    worker.file.close()


def _cause_of_death(worker: _Worker) -> str:
    code = worker.process.returncode
    if code >= 0:
        return f"the trainer ended with exit code {code}; its log says why"
    name = signal.Signals(-code).name
    hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"the trainer was killed by {name}{hint}"

"""One process that carries out orders: `python -m fleet_sim.training.worker ...`.

    stdin: Errand ──▶ bench ──▶ Report: stdout          arrays: shared memory, in both directions

    shared memory: | base | first client's weights | second client's weights | ...

It is given its orders and the memory by the process that started it, and ends when that one does,
however it goes: the system closes the pipe, and a thread waits for that. Nothing is pickled.
"""

import mmap
import os
import queue
import struct
import sys
import threading
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

import msgspec
import numpy as np
import torch

from fedmqtt.weights import Layout, Weights, layout_of
from fleet_sim.training.bench import Bench
from fleet_sim.training.orders import Order, Result, Verdict
from learning_tasks.seam import Evaluated, TaskError, Trained

_LENGTH = struct.Struct("<Q")
_FLOAT_BYTES = 4


class Errand(msgspec.Struct, frozen=True):
    """An order, and how the base weights lie in the shared memory."""

    order: Order
    tensors: tuple[tuple[str, tuple[int, ...]], ...]


class InMemory(msgspec.Struct, frozen=True, tag=True):
    """A `Trained` whose weights lie in the shared memory, at the place of its job."""

    sample_count: int
    metrics: dict[str, float]
    steps: int
    base_loss: float | None
    corrected: tuple[str, ...]
    statistics: frozenset[str] = frozenset()


class Measured(msgspec.Struct, frozen=True, tag=True):
    """An `Evaluated`."""

    sample_count: int
    metrics: dict[str, float]
    confusion: list[list[int]] | None


class Missing(msgspec.Struct, frozen=True, tag=True):
    reason: str


class Report(msgspec.Struct, frozen=True):
    """The answer to an errand."""

    results: list[InMemory | Measured | Missing]
    verdict: Verdict = Verdict()
    unusable: str = ""
    """Why this task cannot be worked on at all."""


_Frame = TypeVar("_Frame")


def write_frame(stream: BinaryIO, message: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read_frame(stream: BinaryIO, kind: type[_Frame]) -> _Frame | None:
    """The next message; None where the stream ends, also in the middle of one."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    return msgspec.msgpack.decode(data, type=kind) if len(data) == size else None


class Memory:
    """The shared file, seen as rows of one model each. Row 0 is the base."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._map: mmap.mmap | None = None

    def reserve(self, layout: Layout, rows: int) -> None:
        """Make it at least so long. Only the process that hands out orders does this."""
        size = max(layout.size * rows * _FLOAT_BYTES, 1)
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)

    def put(self, layout: Layout, row: int, weights: Weights) -> None:
        flat = self._flat(layout, row)
        for name, view in layout.unflatten(flat).items():
            view[...] = weights[name]

    def get(self, layout: Layout, row: int) -> Weights:
        """Copies: the memory is written over with the next order."""
        return layout.unflatten(self._flat(layout, row).copy())

    def _flat(self, layout: Layout, row: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        size = os.fstat(self._file).st_size
        if self._map is None or len(self._map) < size:
            # Not closed: arrays may still look into it. The last of them frees it.
            self._map = mmap.mmap(self._file, size)
        return np.frombuffer(
            self._map, np.float32, layout.size, offset=layout.size * row * _FLOAT_BYTES
        )


def main(words: list[str]) -> NoReturn:
    task, data_dir, device, memory_file = words
    # The task may print. Its words go to the log; the pipe is for reports alone.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    errands: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(errands,), daemon=True).start()
    memory = Memory(int(memory_file))
    # One thread: it is fastest for small models, and more would change the last bits.
    torch.set_num_threads(1)
    bench: Bench | str
    try:
        bench = Bench(task, Path(data_dir), device)
    except TaskError as error:
        bench = str(error)
    while (errand := errands.get()) is not None:
        try:
            write_frame(reports, _do(errand, bench, memory))
        except BrokenPipeError:
            break
    os._exit(0)


def _listen(errands: "queue.SimpleQueue[Errand | None]") -> None:
    with os.fdopen(os.dup(sys.stdin.fileno()), "rb") as stream:
        while (errand := read_frame(stream, Errand)) is not None:
            errands.put(errand)
    # Whoever would read the answer has gone: also in the middle of the work.
    os._exit(0)


def _do(errand: Errand, bench: Bench | str, memory: Memory) -> Report:
    if isinstance(bench, str):
        return Report([], unusable=bench)
    layout = Layout(errand.tensors)
    answer = bench.work(memory.get(layout, 0), errand.order)
    results = [_kept(result, layout, memory, i + 1) for i, result in enumerate(answer.results)]
    return Report(results, answer.verdict)


def _kept(
    result: Result, layout: Layout, memory: Memory, row: int
) -> InMemory | Measured | Missing:
    match result:
        case Trained(weights, sample_count, metrics, steps, base_loss, corrected, statistics):
            if layout_of(weights) != layout:
                return Missing("the task failed: it gave back other weights than it was given")
            memory.put(layout, row, weights)
            return InMemory(sample_count, metrics, steps, base_loss, corrected, statistics)
        case Evaluated(sample_count, metrics, confusion):
            return Measured(sample_count, metrics, confusion)
        case str():
            return Missing(result)


if __name__ == "__main__":
    main(sys.argv[1:])

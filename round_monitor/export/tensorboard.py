"""TensorBoard: event files with each closed round's figures, the round as step.

A run of the federation is a run in TensorBoard: DIR/<federation>/<run>. Started again, it goes on
where it was. Rounds that closed while it did not run are written as long as the history page tells
of them, which is of the last 100.
"""

import argparse
import os
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.status_pages import RoundLine
from round_monitor import closed_rounds
from round_monitor.exporting import WATCHERS, ExportError, Following

ROLES = WATCHERS
EXTRA = "tensorboard"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--logdir",
        type=Path,
        metavar="DIR",
        required=True,
        help="the folder that TensorBoard is given, too",
    )


def run(federation: str, broker: BrokerUrl, arguments: argparse.Namespace) -> None:
    """Raises ExportError."""
    folder: Path = arguments.logdir / federation
    try:
        with ExitStack() as stack:
            stack.callback(FolderLock(folder).release)
            curves = Curves(folder)
            stack.callback(curves.close)

            def on_page(_name: str) -> None:
                curves.take(*closed_rounds.closed(following.board))

            following = Following(federation, broker, on_page)
            following.run()
    except FolderInUse as other:
        raise ExportError(str(other)) from other
    except (FileNotFoundError, NotADirectoryError, PermissionError) as bad:
        where = f"{bad.filename or folder}: {bad.strerror}"
        raise ExportError(f"{where}; give --logdir a folder that can be made") from bad
    except OSError as bad:
        raise ExportError(f"{bad.filename or folder}: {bad.strerror or bad}") from bad


class Curves:
    """Writes rounds into a run's folder below `folder`, each number once. Raises OSError, and
    ModuleNotFoundError without the extra."""

    def __init__(self, folder: Path) -> None:
        # Here: the command explains itself without the extra.
        from tensorboard.compat.proto.event_pb2 import Event

        self._event = Event
        self._folder = folder
        self._run = ""
        self._file: BinaryIO | None = None
        self._written: set[tuple[str, int]] = set()
        """Names and steps, of this run."""

    def take(self, run: str, lines: Iterable[RoundLine]) -> None:
        if run and run != self._run:
            self.close()
            self._run, self._written = run, set(_found_in(self._folder / run))
        new = [
            (name, line.round, value)
            for line in lines
            for name, value in closed_rounds.numbers(line).items()
            if (name, line.round) not in self._written
        ]
        if new:
            self._write(new)

    def close(self) -> None:
        """May be called again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, numbers: Iterable[tuple[str, int, float]]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        # TensorBoard shows when a point was written. A page does not say when a round closed.
        now = time.time()  # noqa: TID251
        is_new = self._file is None
        if self._file is None:
            self._file = _new_file(self._folder / self._run, now)
        # Not by TensorBoard's own file writer: its thread would meet a full disk, and tell nobody.
        records = RecordWriter(self._file)
        if is_new:
            first = self._event(wall_time=now, file_version="brain.Event:2")
            records.write(first.SerializeToString())
        for name, step, value in numbers:
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            event = self._event(wall_time=now, step=step, summary=summary)
            records.write(event.SerializeToString())
            self._written.add((name, step))
        self._file.flush()


def _new_file(folder: Path, now: float) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard reads files in order of their names. Its own have seconds: who is started again
    # within one would come before, or go on in a file that a kill cut short.
    name = f"events.out.tfevents.{int(now * 1e6):016d}.{socket.gethostname()}.{os.getpid()}"
    return (folder / name).open("xb")


def _found_in(folder: Path) -> Iterable[tuple[str, int]]:
    """What earlier programs wrote there. A file that a kill cut short ends with its last whole
    event, as it does for TensorBoard."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                yield value.tag, event.step

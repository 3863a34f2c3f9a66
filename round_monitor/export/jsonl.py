"""JSON lines: one object for each page that changes, on stdout or in a file.

For Telegraf, Vector, Fluent Bit, jq and scripts. At the start comes a line for each page that lies
on the broker; a page that is taken away comes as null.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.status_pages import Page
from round_monitor import stdout
from round_monitor.board import Board
from round_monitor.exporting import WATCHERS, ExportError, Following

ROLES = WATCHERS
EXTRA = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="append to this file (without: to stdout)"
    )


def run(federation: str, broker: BrokerUrl, arguments: argparse.Namespace) -> None:
    """Raises ExportError, also where the file cannot be written. Ends when a pipe's reader has."""
    with ExitStack() as stack:
        output = _Output(arguments.output, stack)
        lines = Lines(federation, output.write)
        following = Following(federation, broker, lambda name: lines.take(following.board, name))
        try:
            following.run()
        except BrokenPipeError:
            # `| head` has seen enough.
            stdout.abandon()


class Lines:
    """Writes what is on a board as lines, each once."""

    def __init__(self, federation: str, write: Callable[[bytes], None]) -> None:
        self._federation = federation
        self._write = write
        self._said: dict[str, Page] = {}

    def take(self, board: Board, name: str) -> None:
        """The page of this name may have changed, or gone, or come as what nobody can read."""
        page = board.newest(name)
        if page is self._said.get(name):
            return
        if page is None:
            del self._said[name]
        else:
            self._said[name] = page
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "federation": self._federation,
            "page": name,
            "status": page,
        }
        self._write(msgspec.json.encode(line) + b"\n")


class _Output:
    """Unbuffered: who follows a file, or finds it after a kill, reads whole lines."""

    def __init__(self, path: Path | None, stack: ExitStack) -> None:
        self._name = str(path or "stdout")
        try:
            self._out = (
                sys.stdout.fileno()
                if path is None
                else stack.enter_context(path.open("ab", buffering=0)).fileno()
            )
        except OSError as bad:
            what = "give --output a file in a folder that is there, and can be written to"
            raise ExportError(f"{self._name}: {bad.strerror}; {what}") from bad

    def write(self, line: bytes) -> None:
        """Raises ExportError, and BrokenPipeError."""
        try:
            while line:
                line = line[os.write(self._out, line) :]
        except BrokenPipeError:
            raise
        except OSError as bad:
            raise ExportError(f"{self._name}: {bad.strerror}") from bad

"""One HTML page from one or several runs, laid over each other: how good the model became, by
round, by hour and by megabyte; who took part and how fair that was; what was lost, and why.

A RUN is the folder that a coordinator or a simulation left. The page is one file that opens offline
and can be passed on as it is. Passwords in settings are struck out; names of clients are not.
"""

import argparse
import shlex
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from round_monitor import run_page
from round_monitor.run_files import ReportError, Run, read_runs

DEFAULT_NAME = "report.html"

_QUIET_S = 2.0
"""What takes no longer needs no progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"where the page is written ({DEFAULT_NAME} in the first run's folder)",
    )
    parser.add_argument("--title", help="its heading; else the runs' names")
    parser.add_argument("--open", action="store_true", help="show it in a browser")


def run(arguments: argparse.Namespace) -> int:
    """0; 2 with one sentence if there is nothing to report, or no place to write to."""
    out: Path = arguments.out or arguments.runs[0] / DEFAULT_NAME
    try:
        runs = _read(arguments.runs)
        title = arguments.title or run_page.default_title(runs)
        run_page.write(out, run_page.page(runs, title, _repeat(arguments, out)))
    except ReportError as bad:
        return _fail(str(bad))
    except OSError as bad:
        return _fail(f"{out}: cannot be written ({bad.strerror}); name another place with --out")
    sys.stdout.write(f"{out}\n")
    if arguments.open and not webbrowser.open(out.resolve().as_uri()):
        sys.stderr.write("There is no browser here to show it in.\n")
    return 0


def _read(folders: Sequence[Path]) -> list[Run]:
    progress = ProgressLine(sys.stderr, _QUIET_S)
    try:
        return read_runs(folders, progress.tell)
    finally:
        progress.end()


class ProgressLine:
    """How much is read, on a terminal, once it takes longer than `quiet_s`."""

    def __init__(self, out: TextIO, quiet_s: float) -> None:
        self._out = out
        self._quiet_s = quiet_s
        self._began = time.monotonic()
        self._said = -1

    def tell(self, share: float) -> None:
        percent = int(100 * share)
        if percent == self._said or not self._out.isatty():
            return
        if time.monotonic() - self._began < self._quiet_s:
            return
        self._said = percent
        self._out.write(f"\rreading: {percent}%")
        self._out.flush()

    def end(self) -> None:
        """What is written next begins a line of its own."""
        if self._said >= 0:
            self._out.write("\n")


def _repeat(arguments: argparse.Namespace, out: Path) -> str:
    words = ["fedmqtt", "report", *map(str, arguments.runs), "--out", str(out)]
    if arguments.title:
        words += ["--title", arguments.title]
    return shlex.join(words)


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2

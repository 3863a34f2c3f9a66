"""Kills processes when whoever started them is gone: no benchmark leaves one behind.

    python -m tests.faults.reaper

It reads process ids from stdin, one a line. However the other end goes, the system closes the
pipe; what still runs then is killed. A process that ended earlier is recognised by its birth.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


class Reaper:
    """Made by `reaping`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def watch(self, pid: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{pid}\n")
        self._process.stdin.flush()


@contextmanager
def reaping() -> Iterator[Reaper]:
    """A reaper for the processes that are started in the block."""
    command = [sys.executable, "-m", "tests.faults.reaper"]
    # A session of its own: Ctrl-C is not for it.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield Reaper(process)


def main() -> None:
    watched: list[psutil.Process] = []
    for line in sys.stdin:
        with contextlib.suppress(psutil.NoSuchProcess):
            watched.append(psutil.Process(int(line)))
    for process in watched:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()

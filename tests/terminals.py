"""A terminal for a program to run on, of which a test has the other end."""

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.patience import WITHIN_S

COLUMNS, LINES = 80, 24
TO_OTHER_SCREEN, FROM_OTHER_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"

TERMINAL = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
TERMINAL.pop("NO_COLOR", None)


@contextmanager
def on_terminal(
    command: list[str], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """It runs on a terminal of its own, of which we have the other end."""
    ours, theirs = a_terminal()
    env = {**TERMINAL, **(environment or {})}
    try:
        # As in a shell of its own: a new size is told to whoever has this for a terminal.
        with started(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        ) as process:
            yield process, ours
    finally:
        os.close(theirs)
        os.close(ours)


def a_terminal() -> tuple[int, int]:
    """Our end of one, and the program's."""
    ours, theirs = os.openpty()
    resize(theirs, COLUMNS, LINES)
    return ours, theirs


def resize(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            # A test that failed must not wait for what would never end.
            process.kill()


def read_until(fd: int, holds: Callable[[str], bool]) -> str:
    """All that is written to `fd` until it holds for it."""
    deadline = time.monotonic() + WITHIN_S
    said = b""
    while not holds(text := said.decode(errors="replace")):
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"it was not said in time: {text!r}"
        piece = os.read(fd, 65536)
        assert piece, f"it ended early: {text!r}"
        said += piece
    return text

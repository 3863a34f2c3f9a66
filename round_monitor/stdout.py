"""What is printed for people and programs, on a disk that may be full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Unwritable(Exception):
    """What was to be printed is not; says why."""


@contextmanager
def printing() -> Iterator[None]:
    """What is printed within has gone out at its end. Raises Unwritable, and BrokenPipeError."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as bad:
        raise Unwritable(f"stdout: {bad.strerror or bad}") from bad


def abandon() -> None:
    """What is left in the buffer must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

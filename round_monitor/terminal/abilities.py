"""What this terminal can show."""

import codecs
import contextlib
import os
import sys
from collections.abc import Mapping

_COLOURS_MIN = 8


def is_screen() -> bool:
    """Whether there is somebody to press keys, and a terminal that can be drawn on."""
    # All three: keys come from the first, and what is drawn goes to the last.
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(one.isatty() for one in streams) and os.environ.get("TERM") not in ("dumb", None)


def has_colour(environment: Mapping[str, str]) -> bool:
    """Not if NO_COLOR says so (https://no-color.org), or if the terminal is known to have none."""
    if environment.get("NO_COLOR"):
        return False
    # Not everywhere there is one, and who wants lines alone does without.
    import curses

    with contextlib.suppress(curses.error):
        # Of no stream: only what the terminal's description says.
        curses.setupterm(environment.get("TERM", ""), fd=1)
        return curses.tigetnum("colors") >= _COLOURS_MIN
    # A new kind of terminal that this machine has no description of.
    return not environment.get("TERM", "").startswith("vt")


def is_ascii(encoding: str) -> bool:
    """Whether less than Unicode can be written."""
    return not codecs.lookup(encoding).name.startswith("utf")

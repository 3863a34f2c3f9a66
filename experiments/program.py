"""An experiment as a program: its arguments, how it ends, its last line."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet_sim.simulate_command import Mistake

_DATA = {"har": "folder with ucihar_features.npz", "mnist": "folder with MNIST's four files"}


def parser(description: str | None, *data: str, needed: bool = False) -> argparse.ArgumentParser:
    """`data`: what it is told the folders of."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in data:
        found.add_argument(f"--{name}", type=Path, required=needed, help=_DATA[name])
    return found


@contextmanager
def mistakes_told(program: str) -> Iterator[None]:
    """What is wrong with what was asked for ends the program with a sentence, and no traceback."""
    try:
        yield
    except Mistake as bad:
        sys.stderr.write(f"{program}: {_in_words(bad)}\n")
        raise SystemExit(2) from bad


@contextmanager
def resumable(program: str) -> Iterator[None]:
    """The same, for a program whose runs are gone on with."""
    try:
        with mistakes_told(program):
            yield
    except KeyboardInterrupt as stopped:
        sys.stderr.write("stopped: the same command goes on with the run that it was at\n")
        raise SystemExit(130) from stopped


def print_result(experiment: str, **found: Any) -> None:
    print(json.dumps(rounded({"experiment": experiment, **found})))


def rounded(value: Any) -> Any:
    """The same tables and lists, for people: numbers to four digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def _in_words(bad: BaseException) -> str:
    if isinstance(bad, OSError):
        return f"{bad.filename}: {bad.strerror}"
    return str(bad)

"""One cell of an experiment is one run in the lab. A cell that was run is not run again.

Cell ──▶ folder/cell.json is there, and it was run far enough: read it ──▶ Played: records, times
         else: simulate, then write cell.json last ──────────────────────▶
"""

import argparse
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coordinator.persistence import history
from coordinator.persistence.history import Record
from experiments.curves import Curve, by_hour
from fedmqtt.settings import SettingsError
from fleet_sim import fleet as fleets
from fleet_sim.lab_page import LabPage
from fleet_sim.simulate_command import simulate

ROOT = Path(__file__).resolve().parent.parent
FLEETS = Path(__file__).resolve().parent / "fleets"

_SAY_EVERY_S = 30.0

Enough = Callable[[Sequence[Record]], bool]
"""Whether a run may end, by its records so far, the newest last."""


@dataclass(frozen=True, slots=True)
class Cell:
    name: str
    """What people call it, and its folder."""
    fleet: Path
    sets: tuple[str, ...]
    """`key=value` over the fleet's file."""

    @property
    def repeat(self) -> str:
        words = ["fedmqtt", "simulate", self.fleet.relative_to(ROOT).as_posix()]
        for one in self.sets:
            words += ["--set", one]
        return shlex.join(words)


class _Done(Struct, frozen=True, kw_only=True):
    """`cell.json`: written last, so that a cell without it was never finished."""

    repeat: str
    """The command of the whole run. It may have been ended before, when enough was known."""
    is_whole: bool
    """It was not."""
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    folder: Path
    records: Sequence[Record]
    page: LabPage
    wall_s: float
    """That it took, on the machine on which it was run."""
    is_new: bool

    @property
    def rounds(self) -> list[Record]:
        """Without the evaluation of the last model."""
        return [record for record in self.records if record.outcome != "evaluated"]

    @property
    def by_hour(self) -> Curve:
        return by_hour(self.records, [mark.closed_s for mark in self.page.rounds])


class Bars:
    """What is being run, and how far it is."""

    def __init__(self, progress: Progress, cells: int) -> None:
        self._progress = progress
        self._is_screen = progress.console.is_terminal
        self._said_at = time.monotonic()
        self._cells = progress.add_task("cells", total=cells, note="")
        self._rounds = progress.add_task("rounds", total=None, note="")

    def begin(self, name: str, rounds: int) -> None:
        self._said_at = time.monotonic()
        self._progress.reset(self._rounds, total=rounds, description=name, note="")

    def tell(self, record: Record) -> None:
        metrics = record.figures.metrics if record.figures else {}
        note = f"accuracy {metrics['accuracy']:.4f}" if metrics else ""
        self._progress.update(self._rounds, completed=record.round - 1, note=note)
        if not self._is_screen and time.monotonic() - self._said_at >= _SAY_EVERY_S:
            self._said_at = time.monotonic()
            task = self._progress.tasks[self._rounds]
            line = f"{task.description}: {record.round - 1} of {task.total} rounds, {note}"
            self._progress.console.print(line, markup=False)

    def end(self, line: str) -> None:
        self._progress.advance(self._cells)
        self._progress.console.print(line, markup=False)


@contextmanager
def bars(cells: int) -> Iterator[Bars]:
    """On standard error; where that is no screen, a line for each cell that is finished, and for
    one that takes long every half a minute."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield Bars(progress, cells)


def add_running_arguments(parser: argparse.ArgumentParser, experiment: str) -> None:
    """Which every experiment has: how many processes train, and where its runs go."""
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="that train; they change nothing but the time it takes (default: one a core)",
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / experiment)


def play_whole(cell: Cell, arguments: argparse.Namespace, bar: Bars, called: str = "") -> Played:
    """All rounds of it, and a line about it. Raises as `play`."""
    one = play(cell, arguments, bar, lambda records: False)
    bar.end(f"{called or cell.name}: {one.wall_s:.0f} s")
    return one


def play(cell: Cell, arguments: argparse.Namespace, bar: Bars, enough: Enough) -> Played:
    """`arguments` has those that every experiment has.

    Raises SettingsError where its folder holds another run, and as `simulate`.
    """
    folder = arguments.runs / cell.name
    if (folder / "cell.json").exists():
        found, is_whole = _read(cell, folder, is_new=False)
        if is_whole or enough(found.records):
            return found
    # Broken off, or ended where then enough was known.
    shutil.rmtree(folder, ignore_errors=True)
    fleet = fleets.read(cell.fleet, cell.sets)
    bar.begin(cell.name, fleet.federation.rounds.count)
    records: list[Record] = []

    def is_enough(record: Record) -> bool:
        records.append(record)
        bar.tell(record)
        nonlocal is_whole
        is_whole = not enough(records)
        return not is_whole

    is_whole = True
    began = time.monotonic()
    simulate(
        fleet,
        folder,
        repeat=cell.repeat,
        processes=arguments.processes,
        enough=is_enough,
        console=Console(quiet=True),
    )
    wall_s = round(time.monotonic() - began, 1)
    done = _Done(repeat=cell.repeat, is_whole=is_whole, wall_s=wall_s)
    (folder / "cell.json").write_bytes(msgspec.json.encode(done))
    return _read(cell, folder, is_new=True)[0]


def _read(cell: Cell, folder: Path, *, is_new: bool) -> tuple[Played, bool]:
    """What there is, and whether it is whole."""
    done = msgspec.json.decode((folder / "cell.json").read_bytes(), type=_Done)
    if done.repeat != cell.repeat:
        raise SettingsError(
            f"{folder} holds another run ({done.repeat}): remove it, or give another --runs"
        )
    found = Played(
        folder=folder,
        records=history.read(folder / "history.jsonl"),
        page=msgspec.json.decode((folder / "lab.json").read_bytes(), type=LabPage),
        wall_s=done.wall_s,
        is_new=is_new,
    )
    return found, done.is_whole

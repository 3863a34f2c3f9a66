"""A run's folder, read for a report: its rounds, who did what in them, its settings.

<run>/history.jsonl     one closed round per line, as the coordinator wrote it
<run>/quarantine/standings.json   who was in quarantine when the coordinator was last there
<run>/lab.json          where the run was a simulation: virtual time, bytes, who held what
<run>/federation.toml   the settings, where they are there; fleet.toml beside it

A history may be far larger than memory has room for as objects, so it is read line by line and only
counts are kept of the clients' names.
"""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, structs

from fedmqtt import unreadable
from fedmqtt.settings import without_passwords
from fedmqtt.status_pages import Privacy
from round_monitor import units
from round_monitor.run_quarantines import Moment, Spells, Standing, Standings

HISTORY, LAB = "history.jsonl", "lab.json"
STANDINGS = "quarantine/standings.json"
SETTINGS = ("fleet.toml", "federation.toml")

JUDGE = "judge"
"""The lab's client that measures on the task's test data and never trains."""

_LARGEST = 1e300
"""Beyond, differences overflow: such a metric has no place on an axis, and says nothing anyway."""

_VARIABLE = re.compile(r"\b[0-9a-f]{8,}\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?")

Progress = Callable[[float], None]
"""Hears the share that is read, 0 to 1."""

_T = TypeVar("_T")


_log = logging.getLogger(__name__)


class ReportError(Exception):
    """There is nothing to report from, or it cannot be read or written; a sentence for people."""


class Group(Struct, frozen=True):
    """What the clients of one label came to."""

    clients: int
    samples: int
    metrics: dict[str, float | None] = {}


class Spread(Struct, frozen=True):
    """How a metric differs between clients."""

    mean: float | None = None
    lowest_tenth: float | None = None
    median: float | None = None
    highest_tenth: float | None = None


class Served(Struct, frozen=True):
    """For whom a model does how well."""

    groups: dict[str, Group] = {}
    spread: dict[str, Spread] = {}


class _Figures(Served, frozen=True, kw_only=True):
    # JSON has no NaN: it is written as null.
    metrics: dict[str, float | None]


class _Line(Struct, frozen=True):
    """One line of the history. What a report does not need is skipped while decoding."""

    round: int
    closed: str = ""
    outcome: str = ""
    reason: str = ""
    invited: list[str] = []
    answered: list[str] = []
    dropped: list[str] = []
    surplus: list[str] = []
    declined: dict[str, str] = {}
    rejected: dict[str, str] = {}
    late_updates: int = 0
    late_counted: list[tuple[str, int]] = []
    duration_s: float = 0.0
    train_metrics: dict[str, float | None] = {}
    figures: _Figures | None = None
    bytes_received: int = 0
    bytes_published: int = 0
    quarantined: dict[str, str] = {}
    privacy: Privacy | None = None


class LabClient(Struct, frozen=True):
    """One simulated client: what it held, and how often it could be reached."""

    client: str
    samples: int | None = None
    label_counts: list[int] = []
    online_share: float | None = None
    dominant_label: int | None = None


class LabRound(Struct, frozen=True):
    round: int
    closed_s: float
    """Since the run's start."""
    bytes_up: int = 0
    """By all clients, from the run's start to here."""
    bytes_down: int = 0


class Lab(Struct, frozen=True):
    """What a simulation tells beyond a history."""

    mode: Literal["virtual", "live"] = "virtual"
    seed: int = 0
    title: str = ""
    clients: list[LabClient] = []
    rounds: list[LabRound] = []
    speed: float = 1.0
    """Seconds of the run's own time in each second that the history tells of."""
    trace: str = ""
    weather: dict[str, Any] = {}
    repeat: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """One closed round, with counts in place of names."""

    number: int
    outcome: str
    at_s: float
    """When it closed, since the run's start; never less than the round before."""
    bytes_moved: int
    """Up and down, from the run's start to when it closed."""
    duration_s: float
    invited: int
    answered: int
    dropped: int
    surplus: int
    rejected: int
    late: int
    late_counted: int
    figures: dict[str, float]
    """Of the model that the round started from."""
    training: dict[str, float]
    """Means over the answers, while they trained."""


@dataclass(slots=True)
class Tallies:
    """Over all rounds: how often each client did what, and which reasons were given how often."""

    invited: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    late_counted: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    surplus: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    why_closed: Counter[str] = field(default_factory=Counter)
    why_rejected: Counter[str] = field(default_factory=Counter)
    why_declined: Counter[str] = field(default_factory=Counter)

    def add(self, line: _Line) -> None:
        self.invited.update(line.invited)
        self.answered.update(line.answered)
        self.late_counted.update(client for client, _ in line.late_counted)
        self.dropped.update(line.dropped)
        self.surplus.update(line.surplus)
        self.rejected.update(line.rejected.keys())
        self.why_closed[line.reason] += 1
        self.why_rejected.update(map(_alike, line.rejected.values()))
        self.why_declined.update(map(_alike, line.declined.values()))


@dataclass(frozen=True, slots=True)
class Run:
    folder: Path
    """As it was given."""
    rounds: list[Round]
    tallies: Tallies
    lab: Lab | None
    settings: dict[str, str]
    """The text of each settings file, by its name. Passwords in addresses are struck out."""
    served: Served | None = None
    """By the newest model that was evaluated."""
    quarantines: Spells = field(default_factory=Spells)
    standings: Standings | None = None
    privacy: Privacy | None = None
    """Of the newest model, where there is noise."""

    @property
    def is_virtual(self) -> bool:
        return self.lab is not None and self.lab.mode == "virtual"


def read_runs(folders: Sequence[Path], progress: Progress) -> list[Run]:
    """The runs, in the order given, each once. Raises ReportError."""
    places = [folder.resolve() for folder in folders]
    unique = [one for n, one in enumerate(folders) if places[n] not in places[:n]]
    sizes = [_size(folder) for folder in unique]
    before = [0, *itertools.accumulate(sizes)]
    # A history of no bytes is refused below, and must not divide.
    whole = max(1, before[-1])
    return [
        _read_run(folder, partial(_told_whole, progress, start, whole))
        for folder, start in zip(unique, before, strict=False)
    ]


def _told_whole(progress: Progress, before: int, whole: int, done: int) -> None:
    """Bytes of one history, as a share of all."""
    progress((before + done) / whole)


def _size(folder: Path) -> int:
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder")
    try:
        return (folder / HISTORY).stat().st_size
    except FileNotFoundError as bad:
        runs = sorted(path.parent for path in folder.glob(f"*/{HISTORY}"))
        hint = (
            f"name one of the runs in it, such as {runs[-1]}" if runs else "it is no run's folder"
        )
        raise ReportError(f"{folder}: no {HISTORY} in it; {hint}") from bad
    except OSError as bad:
        raise ReportError(f"{folder / HISTORY}: {bad.strerror}") from bad


def _read_run(folder: Path, progress: Callable[[int], None]) -> Run:
    lab = _read_lab(folder / LAB)
    marks = {mark.round: mark for mark in lab.rounds} if lab else {}
    tallies = Tallies()
    spells = Spells()
    rounds: list[Round] = []
    served: Served | None = None
    privacy: Privacy | None = None
    clock, meter = _Clock(), _Meter()
    speed = lab.speed if lab else 1.0
    for told in _lines(folder / HISTORY, progress):
        line = structs.replace(told, duration_s=told.duration_s * speed)
        tallies.add(line)
        # Both count on, also over rounds that the lab's page tells of.
        at_s = clock.closed(line)
        moved = meter.moved(line)
        if mark := marks.get(line.round):
            at_s, moved = mark.closed_s, mark.bytes_up + mark.bytes_down
        if rounds:
            at_s, moved = max(at_s, rounds[-1].at_s), max(moved, rounds[-1].bytes_moved)
        rounds.append(_round(line, at_s, moved))
        spells.add(Moment(line.round, at_s), line.quarantined)
        served = line.figures or served
        privacy = line.privacy or privacy
    if not rounds:
        raise ReportError(f"{folder / HISTORY}: no round has been closed in this run")
    settings, standings = _read_settings(folder), _read_standings(folder / STANDINGS)
    return Run(folder, rounds, tallies, lab, settings, served, spells, standings, privacy)


def _lines(path: Path, progress: Callable[[int], None]) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(_Line)
    done = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                done += len(text)
                if text.strip():
                    may_be_torn = number > 1 and not text.endswith(b"\n")
                    line = _line(decoder, text, f"{path}, line {number}", may_be_torn)
                    if line is None:
                        return
                    yield line
                progress(done)
    except OSError as bad:
        raise ReportError(f"{path}: {bad.strerror}") from bad


def _line(
    decoder: "msgspec.json.Decoder[_Line]", text: bytes, where: str, may_be_torn: bool
) -> _Line | None:
    """None of one whose program, or the machine, ended while it was written."""
    try:
        return _decode(decoder, text, where)
    except ReportError as bad:
        if not may_be_torn:
            raise
        _log.warning("%s: the last line is left out", bad)
        return None


def _decode(decoder: "msgspec.json.Decoder[_T]", text: bytes, where: str) -> _T:
    try:
        return decoder.decode(text)
    except unreadable.MESSAGE as bad:
        raise ReportError(f"{where}: damaged ({bad})") from bad


def _read_lab(path: Path) -> Lab | None:
    try:
        lab = _decode(msgspec.json.Decoder(Lab), path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as bad:
        raise ReportError(f"{path}: {bad.strerror}") from bad
    weather = {name: without_passwords(str(value)) for name, value in lab.weather.items()}
    return structs.replace(lab, weather=weather, repeat=without_passwords(lab.repeat))


def _read_standings(path: Path) -> Standings | None:
    """None where there is no such file: as of a run that was simulated, or handed on."""
    try:
        return _decode(msgspec.json.Decoder(dict[str, Standing]), path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as bad:
        raise ReportError(f"{path}: {bad.strerror}") from bad


def _read_settings(folder: Path) -> dict[str, str]:
    found = {}
    for name in SETTINGS:
        try:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        except OSError as bad:
            raise ReportError(f"{folder / name}: {bad.strerror}") from bad
        # A report is passed on; who reads it may not be who may use the broker.
        found[name] = without_passwords(text)
    return found


class _Clock:
    """Seconds since the first round opened, by what the history says of when rounds closed."""

    def __init__(self) -> None:
        self._first = ""
        self._first_s = 0.0
        self._worked_s = 0.0

    def closed(self, line: _Line) -> float:
        self._worked_s += line.duration_s
        if not self._first:
            self._first, self._first_s = line.closed, line.duration_s
        since_s = units.seconds_between(self._first, line.closed)
        # A history without moments still has durations.
        return self._worked_s if since_s is None else self._first_s + since_s


class _Meter:
    """Bytes since the run's start: a coordinator that starts again counts from 0 again."""

    def __init__(self) -> None:
        self._before = 0
        self._last = 0

    def moved(self, line: _Line) -> int:
        counted = line.bytes_received + line.bytes_published
        if counted < self._last:
            self._before += self._last
        self._last = counted
        return self._before + counted


def _round(line: _Line, at_s: float, bytes_moved: int) -> Round:
    return Round(
        number=line.round,
        outcome=line.outcome,
        at_s=at_s,
        bytes_moved=bytes_moved,
        duration_s=line.duration_s,
        invited=len(line.invited),
        answered=len(line.answered),
        dropped=len(line.dropped),
        surplus=len(line.surplus),
        rejected=len(line.rejected),
        late=line.late_updates,
        late_counted=len(line.late_counted),
        figures=_numbers(line.figures.metrics) if line.figures else {},
        training=_numbers(line.train_metrics),
    )


def _numbers(metrics: dict[str, float | None]) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if value is not None and abs(value) < _LARGEST
    }


def _alike(reason: str) -> str:
    """Reasons that differ in a number or a digest only are one reason."""
    return _VARIABLE.sub("…", reason)

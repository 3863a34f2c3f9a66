"""Availability as somebody recorded it: intervals per client, from a CSV file or an npz archive.

CSV: a first line that names the columns, and one interval a line, in any order.

    client,from_s,until_s               client,from,until
    anna,0,3600                         anna,2026-03-02T22:10:00,2026-03-03T06:45
    bob,7200,9000                       bob,,                        (bob never came)

Also understood: `client_id`, `device`, `id` or `user`; `from`, `start`, `start_s` or `begin`;
`until`, `end`, `end_s` or `stop`. Times are seconds since any moment, or ISO timestamps, with a
time zone in all or in none. npz: the arrays `interval_client` (whole numbers), `interval_start_s`
and `interval_end_s`, and, if there is one, `available` with a column for each client.

The day of the earliest interval is day 0, so that times of the day remain what they were. Intervals
are sorted, and those that overlap or touch are one. A fleet's clients take the log's clients by
rank: rank 0 is who was online least. Where the fleet is larger than the log, those who share a
log's client live it whole days apart, no two alike as long as there are days; those beyond are
apart by a part of an hour too (`jitter_h`).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmqtt.effects import Seconds
from fedmqtt.settings import SettingsError
from fleet_sim.intervals import DAY_S, HOUR_S, Interval, merged, share, within
from fleet_sim.tables import Row, read_csv, read_npz, under

_COLUMNS = {
    "client": ("client_id", "device", "id", "user"),
    "from_s": ("from", "start", "start_s", "begin"),
    "until_s": ("until", "end", "end_s", "stop"),
}
_ARRAYS = ("interval_client", "interval_start_s", "interval_end_s")

Log = dict[str, list[Interval]]
"""Each client's intervals, as they were found."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file: Annotated[
        str,
        Meta(
            description="The log: a CSV file with the columns client,from_s,until_s, or an npz\n"
            "archive; from the folder of this file."
        ),
    ] = ""
    after: Annotated[
        Literal["loop", "end"],
        Meta(
            description="What comes after the log: it begins again, or nobody is online any more."
        ),
    ] = "loop"
    days: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="How many days of the log are used; 0: all that it touches.",
        ),
    ] = 0
    clients: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="How many clients the log is of, where it does not name those that never\n"
            "came; 0: those that it names.",
        ),
    ] = 0
    jitter_h: Annotated[
        float,
        Meta(
            ge=0,
            le=12,
            description="Where more clients share one of the log's than it has days, those beyond\n"
            "are up to so many hours earlier or later than it was, all along.",
        ),
    ] = 1.0


@dataclass(frozen=True, slots=True)
class Trace:
    clients: Sequence[Sequence[Interval]]
    """Of each client of the log, who was online least comes first."""
    days: int
    loops: bool
    fleet: int
    """How many clients the fleet has."""
    jitter_h: float


def prepare(settings: Settings, folder: Path, clients: int, starts: Seconds) -> Trace:
    """Raises SettingsError, which names the file, the line and what to do."""
    if not settings.file:
        raise SettingsError("file: which log? Give the path of a CSV file or of an npz archive")
    path = folder / settings.file
    with under("file: "):
        log = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    begins = [begin for intervals in log.values() for begin, _ in intervals]
    if not begins:
        raise SettingsError(f"file: {path}: nobody in it is ever online; write an interval a line")
    if settings.clients and settings.clients < len(log):
        raise SettingsError(
            f"clients: the log is of {settings.clients} clients, but {path} names {len(log)};"
            " give at least as many, or 0"
        )
    day_0 = math.floor(min(begins) / DAY_S) * DAY_S
    moved = [merged((a - day_0, b - day_0) for a, b in found) for found in log.values()]
    last = max((intervals[-1][1] for intervals in moved if intervals), default=0.0)
    if not last:
        raise SettingsError(f"file: {path}: nobody in it is online for longer than no time")
    days = settings.days or math.ceil(last / DAY_S)
    traces = [list(within(intervals, days * DAY_S)) for intervals in moved]
    traces += [[]] * max(0, settings.clients - len(log))
    if not any(traces):
        raise SettingsError(f"days: nobody in {path} is online in the first {days} days; give more")
    # Sorting is stable, so who is online equally long stays in the log's order.
    traces.sort(key=lambda intervals: share(intervals, days * DAY_S))
    return Trace(traces, days, settings.after == "loop", clients, settings.jitter_h)


def online(prepared: Trace, rank: float, chance: Random) -> Iterator[Interval]:
    which, sharer = _place(prepared, rank)
    intervals = prepared.clients[which]
    # The first of those who share a trace lives it as it was.
    if sharer:
        later_s = _days_later(sharer, prepared.days) * DAY_S
        if sharer >= prepared.days:
            later_s += chance.uniform(-1.0, 1.0) * prepared.jitter_h * HOUR_S
        length_s = prepared.days * DAY_S
        intervals = _rotated(intervals, later_s % length_s, length_s)
    return _repeated(intervals, prepared.days * DAY_S, prepared.loops)


def _place(trace: Trace, rank: float) -> tuple[int, int]:
    """Which of the log's clients it is, and as whose how many-th sharer, from 0."""
    fleet, known = trace.fleet, len(trace.clients)
    place = round(rank * fleet - 0.5)
    # int(rank * known), but in whole numbers, and the lowest place for which it is that.
    which = (2 * place + 1) * known // (2 * fleet)
    first = max(0, -((known - 2 * fleet * which) // (2 * known)))
    return which, place - first


def _days_later(sharer: int, days: int) -> int:
    """Another for each of the first `days` sharers, and far from those before: golden sections."""
    step = max(1, round(days * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, days) > 1:
        step += 1
    return sharer * step % days


def _rotated(intervals: Iterable[Interval], by: Seconds, length: Seconds) -> list[Interval]:
    moved = [(begin + by, end + by) for begin, end in intervals]
    wrapped = [(begin - length, end - length) for begin, end in moved]
    return merged((max(begin, 0.0), min(end, length)) for begin, end in [*moved, *wrapped])


def _repeated(intervals: Sequence[Interval], length: Seconds, loops: bool) -> Iterator[Interval]:
    if not loops or not intervals:
        yield from intervals
        return
    # To a second: where a trace was moved by a part of an hour, rounding leaves gaps, or none.
    if math.fsum(end - begin for begin, end in intervals) > length - 1.0:
        yield 0.0, math.inf
        return
    held: Interval | None = None
    for begin, end in _laps(intervals, length):
        if held is not None and begin <= held[1]:
            # Over the end of the log, and on at its beginning.
            held = (held[0], end)
            continue
        if held is not None:
            yield held
        held = (begin, end)


def _laps(intervals: Sequence[Interval], length: Seconds) -> Iterator[Interval]:
    for lap in count():
        for begin, end in intervals:
            yield lap * length + begin, lap * length + end


# The files


def _read_npz(path: Path) -> Log:
    arrays = read_npz(path, _ARRAYS, optional="available")
    owners, begins, ends = (arrays[name] for name in _ARRAYS)
    if not owners.shape == begins.shape == ends.shape == (owners.size,):
        raise SettingsError(
            f"{path}: {', '.join(_ARRAYS)} have the shapes {owners.shape}, {begins.shape},"
            f" {ends.shape}; each needs one number for each interval"
        )
    for name in _ARRAYS:
        if arrays[name].dtype.kind not in "iuf":
            raise SettingsError(f"{path}: {name} holds {arrays[name].dtype}; it needs numbers")
    log: Log = defaultdict(list)
    if "available" in arrays and arrays["available"].ndim == 2:
        log |= {str(client): [] for client in range(arrays["available"].shape[1])}
    rows = zip(owners.tolist(), begins.tolist(), ends.tolist(), strict=True)
    for number, (client, begin, end) in enumerate(rows):
        if not (math.isfinite(begin) and math.isfinite(end) and begin <= end):
            raise SettingsError(
                f"{path}: interval {number} goes from {begin} to {end};"
                " it has to end after it begins"
            )
        log[str(client)].append((float(begin), float(end)))
    return log


def _read_csv(path: Path) -> Log:
    log: Log = defaultdict(list)
    read = _Times()
    for row in read_csv(path, _COLUMNS):
        if not row.cells["client"]:
            raise row.wrong("no client is named; write its name in the first column")
        intervals = log[row.cells["client"]]
        if not row.cells["from_s"] and not row.cells["until_s"]:
            continue
        begin, end = read.time(row, "from_s"), read.time(row, "until_s")
        if end < begin:
            raise row.wrong(
                f"until_s ({row.cells['until_s']}) is before from_s ({row.cells['from_s']});"
                " an interval has to end after it begins"
            )
        intervals.append((begin, end))
    return log


class _Times:
    """One file's times: all of them seconds, or all timestamps, with time zones or without."""

    def __init__(self) -> None:
        self._form = ""
        self._offset_s: Seconds | None = None
        """Of the first time with a zone; each later one is told on its clock."""

    def time(self, row: Row, column: str) -> Seconds:
        """Seconds, on a clock whose days begin at midnight where the log begins."""
        text = row.cells[column]
        seconds = _number(text)
        if seconds is not None:
            self._expect(row, "seconds")
            return seconds
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as bad:
            raise row.wrong(
                f"{column} is {text!r}; write seconds, or a time such as 2026-03-02T22:10:00"
            ) from bad
        zone = moment.utcoffset()
        self._expect(row, "times without a time zone" if zone is None else "times with a time zone")
        if zone is None:
            return moment.replace(tzinfo=UTC).timestamp()
        if self._offset_s is None:
            self._offset_s = zone.total_seconds()
        return moment.timestamp() + self._offset_s

    def _expect(self, row: Row, form: str) -> None:
        self._form = self._form or form
        if form != self._form:
            raise row.wrong(f"{form}, but {self._form} in the lines before; write all in one way")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

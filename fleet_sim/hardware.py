r"""One client's device: how fast it trains, what its battery says, what its owner asks for.

    level  100 % ──\                     /────
                    \__ everyday use    / charging
                       \               /
             training   \_____________/

A battery's level is made of straight lines, so that every moment at which a device reads otherwise
is known beforehand: a simulator with a clock of its own wakes at `changes`, and misses nothing.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from edge_client.conditions import Conditions, Reading
from fedmqtt.effects import Seconds
from fedmqtt.messages import LABEL_MAX
from fedmqtt.settings import SettingsError
from fleet_sim.intervals import HOUR_S, Interval
from fleet_sim.tables import Row, read_csv, under

ONLINE = "online"
"""For `battery.charging`: at the times at which the device is online."""

_FORWARD_SHARE = 1 / 3
"""Measuring is a pass forward; training goes forward and back, and back costs twice as much."""

_COPIES = 4
"""What training keeps of each weight: itself, its gradient, its momentum, what it was before."""

_ROUNDING = 1e-9
"""Of a level: less is no charge. Also what keeps a line from being too short for time to pass."""

_COLUMNS = {
    "phone": ("device", "model"),
    "share": ("share_of_trace_phones", "weight"),
    "ms_per_sample": (),
}
_COLUMNS_OF_BATCHES = {
    "phone": _COLUMNS["phone"],
    "share": _COLUMNS["share"],
    "task": (),
    "ms_per_batch": ("ms_per_batch_mean",),
}


class Battery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    training_h: Annotated[
        float,
        Meta(
            ge=0,
            le=1e4,
            description="Hours of training that a full battery lasts for; 0: there is none, the\n"
            "device is always plugged in. Empty, it is off until it is charged.",
        ),
    ] = 0.0
    idle_h: Annotated[
        float,
        Meta(
            ge=1, le=1e5, description="Hours that it lasts for in everyday use, without training."
        ),
    ] = 30.0
    charge_h: Annotated[
        float, Meta(ge=0.1, le=1e4, description="Hours from empty to full, also while it trains.")
    ] = 2.0
    charging: Annotated[
        str,
        Meta(
            description="When it is plugged in. online: while it is online, as phones at night;\n"
            "or a kind of connectivity (a file in fleet_sim/connectivity), say diurnal."
        ),
    ] = ONLINE
    settings: Annotated[
        dict[str, Any], Meta(description="Settings of that kind; none for online.")
    ] = field(default_factory=dict)


class DeviceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ms_per_sample: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="Milliseconds of training per sample and epoch, in the median.\n"
            "With a table: a factor on what is in it.",
        ),
    ] = 1.0
    spread: Annotated[
        float,
        Meta(ge=0, le=5, description="How much devices differ: the sigma of a lognormal factor."),
    ] = 0.0
    table: Annotated[
        str,
        Meta(
            description="A CSV file with the columns phone,share,ms_per_sample that each device's\n"
            "speed is drawn from; or with phone,share,task,ms_per_batch; from the folder of this\n"
            "file."
        ),
    ] = ""
    task: Annotated[
        str, Meta(description="Of a table with a column `task`: the lines that are taken.")
    ] = ""
    batch_size: Annotated[
        int, Meta(ge=1, le=100_000, description="Of a table with ms_per_batch: samples in a batch.")
    ] = 10
    start_s: Annotated[
        float,
        Meta(ge=0, le=1e5, description="Seconds until the trainer has started: torch is imported."),
    ] = 2.0
    memory_mb: Annotated[
        tuple[Annotated[float, Meta(gt=0)], ...],
        Meta(description="Memory for training, one of these for each device; none: no limit."),
    ] = ()
    metered: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of devices on links that are paid for by the megabyte. Those do\n"
            "not take part where conditions.unmetered asks for that; otherwise it changes nothing.",
        ),
    ] = 0.0
    labels: Annotated[
        Literal["none", "names"],
        Meta(
            description="What its owner calls the kind of device. names: the client's name up to\n"
            "its first hyphen, so that phone-01 is a phone."
        ),
    ] = "none"
    battery: Annotated[Battery, Meta(description="What it runs on, and when it is charged.")] = (
        field(default_factory=Battery)
    )
    conditions: Annotated[
        Conditions, Meta(description="When the devices' owners let them take part at all.")
    ] = field(default_factory=Conditions)


def label_of(settings: DeviceSettings, client: str) -> str:
    """No longer than a presence may carry."""
    return client.partition("-")[0][:LABEL_MAX] if settings.labels == "names" else ""


class Charge:
    """A battery's level over time, from straight lines; percent, and the times at which it changes.

    Full and empty it stays as it is. What is asked of it never changes what it answers: lines are
    drawn from one turn to the next, however far was looked ahead.
    """

    def __init__(self, battery: Battery, plugged: Iterable[Interval], level: float) -> None:
        """`plugged` is when it charges; `level` the one at second 0, from 0 to 1."""
        self._battery = battery
        self._to_come = iter(plugged)
        self._plugged: list[Interval] = []
        self._training: Interval = (math.inf, math.inf)
        self._lines: list[tuple[Seconds, float, float]] = []
        """(from, level, change per second), each until the next."""
        self._turn: tuple[Seconds, float] = (0.0, level)
        """Up to where the lines are drawn, and the level there."""
        self._times: list[Seconds] = []
        self._readings: list[Reading] = []

    def reading(self, at: Seconds) -> Reading:
        self._draw_past(at)
        return self._readings[bisect_right(self._times, at) - 1]

    def level(self, at: Seconds) -> float:
        """From 0 to 1."""
        self._draw_past(at)
        begin, level, slope = self._lines[bisect_right(self._lines, at, key=_begin) - 1]
        return min(max(level + slope * (at - begin), 0.0), 1.0)

    def changes(self, after: Seconds, until: Seconds) -> list[Seconds]:
        """When `reading` changes, in (after, until]. At such a moment it is already the new one."""
        self._draw_past(until)
        return self._times[bisect_right(self._times, after) : bisect_right(self._times, until)]

    def train(self, begin: Seconds, end: Seconds) -> None:
        """It trains from `begin` to `end`, and later not any more, as far as anybody knows.

        What was said of the time before `begin` stays as it was said. A training that ends early
        is told by `train(now, now)`.
        """
        level = self.level(begin)
        before = bisect_left(self._lines, begin, key=_begin)
        known = bisect_left(self._times, begin)
        del self._lines[before:], self._times[known:], self._readings[known:]
        self._turn = (begin, level)
        self._training = (begin, end)

    def _draw_past(self, at: Seconds) -> None:
        while self._turn[0] <= at:
            self._draw_line()

    def _draw_line(self) -> None:
        now, level = self._turn
        charging, end = self._plugged_at(now)
        slope = self._slope(now, charging, level)
        end = min([end, *(moment for moment in self._training if moment > now)])
        if slope:
            end = min(end, now + (level if slope < 0 else 1 - level) / abs(slope))
        self._lines.append((now, level, slope))
        for moment, percent in _percents(now, level, slope, end):
            self._note(moment, Reading(charging=charging, battery=percent))
        over = level + slope * (end - now) if slope else level
        self._turn = (end, _at_its_end(over, slope))

    def _slope(self, now: Seconds, charging: bool, level: float) -> float:
        if charging:
            return 0.0 if level >= 1 else 1 / (self._battery.charge_h * HOUR_S)
        if level <= 0:
            return 0.0
        use = 1 / (self._battery.idle_h * HOUR_S)
        if self._training[0] <= now < self._training[1]:
            use += 1 / (self._battery.training_h * HOUR_S)
        return -use

    def _plugged_at(self, now: Seconds) -> tuple[bool, Seconds]:
        """Whether it is charged, and until when that is so."""
        while not self._plugged or self._plugged[-1][1] <= now:
            self._plugged.append(next(self._to_come, (math.inf, math.inf)))
        begin, end = self._plugged[bisect_right(self._plugged, now, key=_end)]
        return (True, end) if begin <= now else (False, begin)

    def _note(self, moment: Seconds, reading: Reading) -> None:
        if self._times and self._times[-1] == moment:
            self._times.pop()
            self._readings.pop()
        if not self._readings or self._readings[-1] != reading:
            self._times.append(moment)
            self._readings.append(reading)


def _percents(
    begin: Seconds, level: float, slope: float, end: Seconds
) -> Iterator[tuple[Seconds, int]]:
    """Whole percents along a line, each with the moment from which on it is the nearest."""
    percent = math.ceil(level * 100 - 0.5) if slope < 0 else math.floor(level * 100 + 0.5)
    yield begin, percent
    step = (slope > 0) - (slope < 0)
    while step:
        moment = begin + ((percent + step / 2) / 100 - level) / slope
        if moment >= end:
            return
        percent += step
        yield moment, percent


def _at_its_end(level: float, slope: float) -> float:
    """Full is full and empty is empty, whatever was lost to rounding."""
    if slope > 0 and level > 1 - _ROUNDING:
        return 1.0
    return 0.0 if slope < 0 and level < _ROUNDING else level


def _begin(line: tuple[Seconds, float, float]) -> Seconds:
    return line[0]


def _end(interval: Interval) -> Seconds:
    return interval[1]


@dataclass(frozen=True, slots=True)
class Hardware:
    ms_per_sample: float
    start_s: Seconds
    memory_mb: float = math.inf
    metered: bool = False
    charge: Charge | None = None
    """None: it has no battery."""

    def train_s(self, samples: int, epochs: int) -> Seconds:
        """How long a training takes, with the start of the trainer."""
        return self.start_s + samples * epochs * self.ms_per_sample / 1000

    def evaluate_s(self, samples: int) -> Seconds:
        """How long measuring a model takes, with the start of the trainer."""
        return self.start_s + samples * self.ms_per_sample / 1000 * _FORWARD_SHARE

    @property
    def model_bytes_max(self) -> float:
        """The largest model that its memory can train, without what lies between the layers."""
        return self.memory_mb * 1e6 / _COPIES

    def reading(self, at: Seconds) -> Reading:
        """What it says of itself at this moment."""
        reading = Reading() if self.charge is None else self.charge.reading(at)
        return replace(reading, metered=True) if self.metered else reading

    def is_empty(self, at: Seconds) -> bool:
        """Whether its battery reads 0 percent and is not charged: nothing works any more."""
        reading = self.reading(at)
        return reading.battery == 0 and not reading.charging

    def changes(self, after: Seconds, until: Seconds) -> list[Seconds]:
        """The moments in (after, until] from which on `reading` is another, unless it trains."""
        return [] if self.charge is None else self.charge.changes(after, until)

    def train(self, begin: Seconds, end: Seconds) -> None:
        """It trains for so long, which its battery feels: ask for `changes` again.

        One that ends early is told by `train(now, now)`.
        """
        if self.charge is not None:
            self.charge.train(begin, end)


@dataclass(frozen=True, slots=True)
class Devices:
    """What all clients' devices are drawn from."""

    settings: DeviceSettings
    speeds: Sequence[tuple[float, float]]
    """(share, ms per sample) of the table; empty: there is none."""

    def draw(self, plugged: Iterable[Interval], chance: Random) -> Hardware:
        """One client's; `plugged` says when its battery is charged, if it has one."""
        settings = self.settings
        # Always drawn, so that changing one setting changes nothing else.
        factor, quantile, memory = chance.gauss(0.0, 1.0), chance.random(), chance.random()
        metered, level = chance.random(), chance.uniform(0.5, 1.0)
        speed = settings.ms_per_sample * math.exp(settings.spread * factor)
        if self.speeds:
            speed *= _pick(self.speeds, quantile)
        sizes = settings.memory_mb
        has_battery = settings.battery.training_h > 0
        return Hardware(
            ms_per_sample=speed,
            start_s=settings.start_s,
            memory_mb=sizes[int(memory * len(sizes))] if sizes else math.inf,
            metered=metered < settings.metered,
            charge=Charge(settings.battery, plugged, level) if has_battery else None,
        )


def prepare(settings: DeviceSettings, folder: Path) -> Devices:
    """Reads the table. Raises SettingsError, which begins with the key."""
    for name in ("load_max", "temperature_max"):
        if getattr(settings.conditions, name):
            raise SettingsError(
                f"conditions.{name}: load and temperature are not simulated; leave it at 0, and"
                " choose from: charging, battery_min, unmetered"
            )
    if settings.conditions.metered_links:
        raise SettingsError(
            "conditions.metered_links: links have no names here; device.metered says how many are"
        )
    if not settings.table:
        if settings.task:
            raise SettingsError(f"task: {settings.task!r} of which table? Give `table` too")
        return Devices(settings, [])
    return Devices(settings, _speeds(settings, folder / settings.table))


def _speeds(settings: DeviceSettings, path: Path) -> list[tuple[float, float]]:
    with under("table: "):
        has_batches, rows = _read(path)
    if has_batches:
        tasks = sorted({row.cells["task"] for row in rows})
        rows = [row for row in rows if row.cells["task"] == settings.task]
        if not rows:
            raise SettingsError(
                f"task: {path} has no task {settings.task!r}; choose one of: {', '.join(tasks)}"
            )
    elif settings.task:
        raise SettingsError(f"task: {path} has no column task; leave it out")
    with under("table: "):
        found = [(row.number("share", at_least=0), _ms(row, settings.batch_size)) for row in rows]
    if not any(share for share, _ in found):
        raise SettingsError(f"table: {path}: every share is 0; say how many have each phone")
    return found


def _read(path: Path) -> tuple[bool, list[Row]]:
    """Whether the table tells the time of a batch, and its rows. Raises SettingsError."""
    try:
        return False, read_csv(path, _COLUMNS)
    except SettingsError as of_samples:
        try:
            return True, read_csv(path, _COLUMNS_OF_BATCHES)
        except SettingsError:
            raise of_samples from None


def _ms(row: Row, batch_size: int) -> float:
    if "ms_per_sample" in row.cells:
        return row.number("ms_per_sample", at_least=0)
    return row.number("ms_per_batch", at_least=0) / batch_size


def _pick(speeds: Sequence[tuple[float, float]], quantile: float) -> float:
    """The speed at this quantile of the shares, which need not add up to 1."""
    sums = list(accumulate(share for share, _ in speeds))
    return speeds[bisect_right(sums, quantile * sums[-1])][1]

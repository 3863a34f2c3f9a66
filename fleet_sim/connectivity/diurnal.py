"""Online once a day, as a phone that charges at night on its owner's Wi-Fi.

    day 0                 day 1                 day 2
    ──────────────┌───────────┐──────────┌──────────┐─────────
                  22:00 + zone + habit + jitter

A client's rank is its place in the fleet's time zones: rank 0 begins first, the last ones `zones_h`
hours later. Its habit is its own and the same every day; the jitter is drawn anew each day.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from fedmqtt.effects import Seconds
from fedmqtt.settings import SettingsError
from fleet_sim.intervals import DAY_S, HOUR_S, TIME_OF_DAY_PATTERN, Interval, seconds_of

_UNPLUGGED_S: Seconds = 60.0
"""The least time between two days' windows: a device that never left would have no days."""

_Factor = Annotated[float, Meta(ge=0, le=3)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    begins: Annotated[
        str,
        Meta(
            pattern=TIME_OF_DAY_PATTERN,
            description='When it begins on average, as "HH:MM" where the first clients live.',
        ),
    ] = "22:30"
    lasts_h: Annotated[
        float, Meta(gt=0, le=24, description="How long it lasts on average, in hours.")
    ] = 8.0
    habit_h: Annotated[
        float,
        Meta(
            ge=0,
            le=6,
            description="How much clients differ in when they begin: a standard deviation, hours.",
        ),
    ] = 1.0
    jitter_h: Annotated[
        float,
        Meta(
            ge=0,
            le=6,
            description="How much each client's days differ, in begin and in length:\n"
            "a standard deviation, hours.",
        ),
    ] = 0.5
    skip: Annotated[
        float, Meta(ge=0, lt=1, description="Share of days on which a client does not come at all.")
    ] = 0.0
    zones_h: Annotated[
        float,
        Meta(
            ge=0,
            le=24,
            description="Over how many hours of time zones the fleet lies, by the clients' ranks;\n"
            "24: all around the world.",
        ),
    ] = 0.0
    by_weekday: Annotated[
        tuple[_Factor, _Factor, _Factor, _Factor, _Factor, _Factor, _Factor],
        Meta(
            description="Factors on the length of what begins on a Monday, a Tuesday, ... a Sunday."
        ),
    ] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def prepare(settings: Settings, folder: Path, clients: int, starts: Seconds) -> Settings:
    """Raises SettingsError where nobody would ever be online."""
    if not any(settings.by_weekday):
        raise SettingsError("by_weekday: nobody is online on any day; give at least one above 0")
    return settings


def online(prepared: Settings, rank: float, chance: Random) -> Iterator[Interval]:
    habit_s = _about(chance, prepared.habit_h)
    own_begin = seconds_of(prepared.begins) + rank * prepared.zones_h * HOUR_S + habit_s
    # Three days back: what began up to two days before second 0 may still go on.
    windows = (_window(prepared, own_begin, day, chance) for day in count(-3))
    begin, end = next(windows)
    for next_begin, next_end in windows:
        end = min(end, next_begin - _UNPLUGGED_S)
        if end > max(begin, 0.0):
            yield max(begin, 0.0), end
        begin, end = next_begin, next_end


def _window(settings: Settings, own_begin: Seconds, day: int, chance: Random) -> Interval:
    """That of one day; empty on a day on which it does not come."""
    begin = day * DAY_S + own_begin + _about(chance, settings.jitter_h)
    share = settings.by_weekday[day % 7]
    length = settings.lasts_h * HOUR_S * share + _about(chance, settings.jitter_h)
    # Always drawn, so that `skip` moves nothing else.
    comes = chance.random() >= settings.skip and share > 0
    return begin, begin + max(length, 0.0) * comes


def _about(chance: Random, deviation_h: float) -> Seconds:
    """Zero, more or less. Less than half a day, so that days stay in order."""
    drawn = chance.gauss(0.0, deviation_h) * HOUR_S
    return min(max(drawn, -0.49 * DAY_S), 0.49 * DAY_S)

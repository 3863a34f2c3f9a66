"""What somebody wrote down: at 14:00 half of the fleet leaves, at 15:00 it is back.

Everybody is online unless an event says otherwise. A time without a day is the first such time of
the run, and one with a day that of the run's first week; numbers are seconds since the midnight
(of Monday) before the run begins. An event names its clients by rank, so its
share is exact, and two events can be told to hit the same clients or others:

    events = [
      { at = "14:00", leave = 0.5, returns = "15:00" },              # ranks 0 to 0.5
      { at = "20:00", leave = 0.5, first = 0.5, within_s = 600 },    # the others, for good
    ]
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated, Any

from msgspec import Meta, Struct

from fedmqtt import settings as toml
from fedmqtt.effects import Seconds
from fedmqtt.settings import SettingsError
from fleet_sim.intervals import DAY_S, TIME_OF_WEEK_PATTERN, WEEK_S, Interval, seconds_of

_FOR_GOOD_S: Seconds = 12_000 * DAY_S
"""Longer than any event. Daily ones may leave no gap: who is away for so long never returns."""

_Moment = Annotated[str, Meta(pattern=TIME_OF_WEEK_PATTERN)] | Annotated[float, Meta(ge=0, le=1e9)]


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at: Annotated[
        _Moment,
        Meta(description='When they leave: "14:00", "Tue 14:00", or seconds since Monday began.'),
    ]
    leave: Annotated[float, Meta(gt=0, le=1, description="Which share of the fleet leaves.")] = 1.0
    first: Annotated[
        float, Meta(ge=0, lt=1, description="The lowest rank that leaves; 0.5: the upper half.")
    ] = 0.0
    returns: Annotated[
        _Moment | None, Meta(description="When they are back; without it they never are.")
    ] = None
    within_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="Each leaves, and is back, at a moment of its own so many seconds later.",
        ),
    ] = 0.0
    daily: Annotated[bool, Meta(description="Again on each day after.")] = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    events: Annotated[
        tuple[dict[str, Any], ...],
        Meta(description='What happens: { at = "14:00", leave = 0.5, returns = "15:00" }, ...'),
    ] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    event: Event
    begin: Seconds
    end: Seconds
    """Of the event's first time; infinite where they leave for good."""


def prepare(settings: Settings, folder: Path, clients: int, starts: Seconds) -> tuple[Planned, ...]:
    """Raises SettingsError for an event that cannot be."""
    return tuple(
        _event(values, f"event {n}", starts) for n, values in enumerate(settings.events, 1)
    )


def _event(values: dict[str, Any], name: str, starts: Seconds) -> Planned:
    if "at" not in values:
        raise SettingsError(f'events: {name} does not say when: give it at = "14:00"')
    event = toml.convert(values, Event, f"events: {name}")
    if event.first + event.leave > 1 + 1e-9:
        raise SettingsError(
            f"events: {name} lets a share of {event.leave:g} leave, but from rank"
            f" {event.first:g} on there are only {1 - event.first:g} of the fleet: lower one"
        )
    if event.daily and event.returns is None:
        raise SettingsError(
            f'events: {name} is daily, but nobody comes back from it: give it returns = "15:00"'
        )
    begin = _begin(event, starts)
    end = _end(event, begin)
    if end <= begin or (event.daily and end - begin + event.within_s >= DAY_S):
        raise SettingsError(
            f"events: {name} leaves at {_told(event.at)} and returns at {_told(event.returns)}:"
            " `returns` has to come after `at`, and less than a day later where it is daily"
        )
    if not event.daily and end + event.within_s <= starts:
        raise SettingsError(
            f"events: {name} is over before the run begins, {starts:.0f} s after midnight of"
            " Monday: give it a later time"
        )
    return Planned(event, begin, end)


def online(prepared: tuple[Planned, ...], rank: float, chance: Random) -> Iterator[Interval]:
    hit = [one for one in prepared if one.event.first <= rank < one.event.first + one.event.leave]
    once = [_away(one, 0, chance) for one in hit if not one.event.daily]
    daily = [one for one in hit if one.event.daily]
    now: Seconds = 0.0
    away_since: Seconds = 0.0
    for gone, back in _in_turn(once, daily, chance):
        if gone > now:
            yield now, gone
            away_since = gone
        now = max(now, back)
        if now - away_since > _FOR_GOOD_S:
            return
    yield now, math.inf


def _in_turn(once: list[Interval], daily: list[Planned], chance: Random) -> Iterator[Interval]:
    """Absences in the order in which they begin. Endless if there are daily ones."""
    pending = sorted(once)
    for day in count() if daily else ():
        pending = sorted([*pending, *(_away(one, day, chance) for one in daily)])
        # Those of the days to come begin after this one.
        while pending and pending[0][0] < (day + 1) * DAY_S:
            yield pending.pop(0)
    yield from pending


def _away(planned: Planned, day: int, chance: Random) -> Interval:
    gone = planned.begin + chance.uniform(0.0, planned.event.within_s)
    back = planned.end + chance.uniform(0.0, planned.event.within_s)
    return day * DAY_S + gone, day * DAY_S + max(back, gone)


def _begin(event: Event, starts: Seconds) -> Seconds:
    """When they leave first. A time that has passed at the start is the next such time."""
    if not isinstance(event.at, str):
        return float(event.at)
    begin = seconds_of(event.at)
    if event.daily:
        return begin
    return _next(begin, WEEK_S if " " in event.at else DAY_S, starts)


def _end(event: Event, begin: Seconds) -> Seconds:
    """When they are back. A time of the day that has passed at `at` is one of the next day."""
    if event.returns is None:
        return math.inf
    if not isinstance(event.returns, str):
        return float(event.returns)
    end = seconds_of(event.returns)
    if " " in event.returns:
        # In the week in which they left.
        return end + math.floor(begin / WEEK_S) * WEEK_S
    return _next(end, DAY_S, math.nextafter(begin, math.inf))


def _next(moment: Seconds, every: Seconds, not_before: Seconds) -> Seconds:
    return moment + max(0, math.ceil((not_before - moment) / every)) * every


def _told(moment: str | float | None) -> str:
    return f"{moment:g}" if isinstance(moment, float) else str(moment)

"""What somebody wrote down: at 14:00 half of the fleet leaves, at 15:00 it is back.

Everybody is online unless an event says otherwise. An event names its clients by rank, so its
share is exact, and two events can be told to hit the same clients or others:

    events = [
      { at = "14:00", leave = 0.5, returns = "15:00" },              # ranks 0 to 0.5
      { at = "20:00", leave = 0.5, first = 0.5, within_s = 600 },    # the others, for good
    ]
"""

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated, Any

from msgspec import Meta, Struct

from fedmqtt import settings as toml
from fedmqtt.effects import Seconds
from fedmqtt.settings import SettingsError
from fleet_sim.intervals import DAY_S, TIME_OF_WEEK_PATTERN, Interval, seconds_of

_FOR_GOOD_S: Seconds = 12_000 * DAY_S
"""Longer than any event. Daily ones may leave no gap: who is away for so long never returns."""

_Moment = Annotated[str, Meta(pattern=TIME_OF_WEEK_PATTERN)] | Annotated[float, Meta(ge=0, le=1e9)]


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at: Annotated[
        _Moment,
        Meta(description='When they leave: "14:00", "Tue 14:00", or seconds since midnight.'),
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


def prepare(settings: Settings, folder: Path, clients: int) -> tuple[Event, ...]:
    """Raises SettingsError for an event that cannot be."""
    return tuple(_event(values, f"event {n}") for n, values in enumerate(settings.events, 1))


def _event(values: dict[str, Any], name: str) -> Event:
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
    away_s = _end(event) - _second(event.at)
    if away_s <= 0 or (event.daily and away_s + event.within_s >= DAY_S):
        raise SettingsError(
            f"events: {name} leaves at {_told(event.at)} and returns at {_told(event.returns)}:"
            " `returns` has to come after `at`, and less than a day later where it is daily"
        )
    return event


def online(prepared: tuple[Event, ...], rank: float, chance: Random) -> Iterator[Interval]:
    hit = [one for one in prepared if one.first <= rank < one.first + one.leave]
    once = [_away(event, 0, chance) for event in hit if not event.daily]
    daily = [event for event in hit if event.daily]
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


def _in_turn(once: list[Interval], daily: list[Event], chance: Random) -> Iterator[Interval]:
    """Absences in the order in which they begin. Endless if there are daily ones."""
    pending = sorted(once)
    for day in count() if daily else ():
        pending = sorted([*pending, *(_away(event, day, chance) for event in daily)])
        # Those of the days to come begin after this one.
        while pending and pending[0][0] < (day + 1) * DAY_S:
            yield pending.pop(0)
    yield from pending


def _away(event: Event, day: int, chance: Random) -> Interval:
    gone = _second(event.at) + chance.uniform(0.0, event.within_s)
    back = _end(event) + chance.uniform(0.0, event.within_s)
    return day * DAY_S + gone, day * DAY_S + max(back, gone)


def _end(event: Event) -> Seconds:
    """When they are back. A time of the day that has passed at `at` is one of the next day."""
    if event.returns is None:
        return math.inf
    end = _second(event.returns)
    if isinstance(event.returns, str) and " " not in event.returns:
        begin = _second(event.at)
        end += math.floor(begin / DAY_S) * DAY_S
        end += DAY_S if end <= begin else 0.0
    return end


def _second(moment: str | float) -> Seconds:
    return seconds_of(moment) if isinstance(moment, str) else float(moment)


def _told(moment: str | float | None) -> str:
    return f"{moment:g}" if isinstance(moment, float) else str(moment)

"""Everybody is online, all the time."""

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

from msgspec import Struct

from fedmqtt.effects import Seconds
from fleet_sim.intervals import Interval


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to set."""


def prepare(settings: Settings, folder: Path, clients: int, starts: Seconds) -> None:
    """Nothing is needed."""


def online(prepared: None, rank: float, chance: Random) -> Iterator[Interval]:
    yield 0.0, math.inf

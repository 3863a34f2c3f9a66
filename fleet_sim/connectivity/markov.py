"""Online and offline by turns, for times that remember nothing: a Markov chain of two states.

    online   ───────┐     ┌────────────┐  ┌──
    offline         └─────┘            └──┘     both exponential, with the given means

With a `spread`, clients differ in how often they are online: their odds of being online are
lognormal, and a client's rank is its quantile among them. What one is online more often comes half
of longer intervals and half of shorter absences.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Annotated

from msgspec import Meta, Struct

from fedmqtt.effects import Seconds
from fleet_sim.intervals import Interval

_RANK_MIN = 1e-9
"""A rank of 0 would be infinitely bad."""

_LEAST_S: Seconds = 0.001
_FOREVER_S: Seconds = 1e10
"""Until then, a moment and one that is `_LEAST_S` later are two different numbers."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    online_s: Annotated[
        float, Meta(ge=1, le=1e8, description="Mean time online at a stretch, in seconds.")
    ] = 3600.0
    offline_s: Annotated[
        float, Meta(ge=1, le=1e8, description="Mean time away at a stretch, in seconds.")
    ] = 1800.0
    spread: Annotated[
        float,
        Meta(
            ge=0,
            le=5,
            description="How much clients differ: the sigma of their lognormal odds of being\n"
            "online; 0: all alike.",
        ),
    ] = 0.0


def prepare(settings: Settings, folder: Path, clients: int, starts: Seconds) -> Settings:
    return settings


def online(prepared: Settings, rank: float, chance: Random) -> Iterator[Interval]:
    online_s, offline_s = means(prepared, rank)
    now: Seconds = 0.0
    # The chain has been going on for ever, and what is left of a stretch is drawn like a whole one.
    if chance.random() >= online_s / (online_s + offline_s):
        now = chance.expovariate(1 / offline_s)
    while now < _FOREVER_S:
        end = now + _stretch(chance, online_s)
        yield now, end
        now = end + _stretch(chance, offline_s)


def _stretch(chance: Random, mean_s: Seconds) -> Seconds:
    return max(chance.expovariate(1 / mean_s), _LEAST_S)


def means(settings: Settings, rank: float) -> tuple[Seconds, Seconds]:
    """Mean times online and offline of the client of this rank."""
    quantile = NormalDist().inv_cdf(min(max(rank, _RANK_MIN), 1 - _RANK_MIN))
    factor = math.exp(settings.spread * quantile / 2)
    return settings.online_s * factor, settings.offline_s / factor

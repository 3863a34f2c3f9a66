"""Those that teach the model much and answer fast, by what they reported, and a share of others.

    U(k)    = n_k F_k, at most its 95th percentile, scaled to 0..1 over the clients that were heard
    util(k) = (U(k) + sqrt(0.1 ln t / last(k))) * min(1, T / t_k)^a
    S_t     = (1 - e) m drawn in proportion to util(k) among those above 0.95 of the m-th largest,
              and e m that are explored;   e = max(e_min, e_0 d^(t-1))

with n_k samples, F_k their mean loss, t_k the median duration, last(k) the round that k answered
last, t the next round to be known of.

Source: Lai et al., "Oort: Efficient Federated Learning via Guided Participant Selection", OSDI
2021, equation 1 and algorithm 1; clipping from section 4.4.

What is simpler here: the paper's statistical utility n sqrt(mean of squared losses) needs the loss
of each sample, of which clients report the mean alone, so it is n times that. Its pacer raises the
preferred duration T step by step when utility falls; here T is such that a fixed share of the
measured clients is within it, so it follows the fleet by itself. Exploration goes by chance, since
nothing tells how fast a new client is, and goes on, at `explore_min`, when there is nobody new.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from coordinator import exploration
from coordinator.known import UNKNOWN
from coordinator.selection import Fleet
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId

_CUTOFF = 0.95
"""Of the utility of the last that would have a place: who has as much may have it instead."""

_CLIP = 0.95
"""No utility counts for more than this quantile: outliers are often corrupt."""

GOES_BY = "data"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    explore: Annotated[
        float, Meta(ge=0, le=1, description="Share of the places that are explored, at first.")
    ] = 0.9
    explore_decay: Annotated[
        float, Meta(gt=0, le=1, description="That share falls by this factor with each round.")
    ] = 0.98
    explore_min: Annotated[float, Meta(gt=0, le=1, description="It does not fall below this.")] = (
        0.2
    )
    slow_penalty: Annotated[
        float,
        Meta(ge=0, le=10, description="How much a slow client loses (a); 0 goes by loss alone."),
    ] = 2.0
    preferred: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Share of the measured clients that are not slow: the others take longer.",
        ),
    ] = 0.8


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    heard = {one: it for one in candidates if (it := known.get(one, UNKNOWN)).answered}
    now = 1 + max((known.get(one, UNKNOWN).invited_last for one in candidates), default=0)
    share = settings.explore * settings.explore_decay ** (now - 1)
    explored = exploration.places(count, max(settings.explore_min, share), chance)
    exploited = _exploited(heard, min(count - explored, len(heard)), now, chance, settings)
    taken = frozenset(exploited)
    others = [one for one in candidates if one not in taken]
    rest = exploration.draw(others, count - len(exploited), chance, known)
    return tuple(sorted([*exploited, *rest]))


def _exploited(
    heard: Fleet, count: int, now: int, chance: Random, settings: Settings
) -> list[ClientId]:
    if not count:
        return []
    utility = utilities(heard, now, settings)
    best = sorted(utility, key=lambda one: (-utility[one], one))
    least = _CUTOFF * utility[best[count - 1]]
    eligible = [one for one in best if utility[one] >= least]
    # As in power_of_choice: the largest of log(u) / weight are a draw in proportion to weight.
    keys = {one: math.log(1.0 - chance.random()) / max(utility[one], 1e-12) for one in eligible}
    return sorted(eligible, key=lambda one: -keys[one])[:count]


def utilities(heard: Fleet, now: int, settings: Settings) -> dict[ClientId, float]:
    """util(k) of clients that have answered, when `now` is the next round."""
    statistical = _scaled(heard)
    durations = {one: it.duration_s for one, it in heard.items()}
    preferred_s = _quantile([s for s in durations.values() if s is not None], settings.preferred)
    return {
        one: (statistical[one] + math.sqrt(0.1 * math.log(now) / max(1, it.answered_last)))
        * _speed(durations[one], preferred_s, settings.slow_penalty)
        for one, it in heard.items()
    }


def _scaled(heard: Fleet) -> dict[ClientId, float]:
    """n F of each, clipped and scaled; who told no loss has the mean of those who did."""
    told = {one: it.samples * max(0.0, it.loss) for one, it in heard.items() if it.loss is not None}
    if not told:
        return dict.fromkeys(heard, 0.0)
    highest = _quantile(list(told.values()), _CLIP)
    clipped = {one: min(value, highest) for one, value in told.items()}
    lowest = min(clipped.values())
    span = (highest - lowest) or 1.0
    scaled = {one: (value - lowest) / span for one, value in clipped.items()}
    mean = sum(scaled.values()) / len(scaled)
    return {one: scaled.get(one, mean) for one in heard}


def _speed(duration_s: Seconds | None, preferred_s: Seconds, penalty: float) -> float:
    if duration_s is None or duration_s <= preferred_s:
        return 1.0
    return math.pow(preferred_s / duration_s, penalty)


def _quantile(values: list[float], share: float) -> float:
    """The smallest of them that is not below this share of them; 0 of none."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0

"""How many clients would answer if all were asked, inferred from those who did. Pure.

    S_t = all k with draw(k) < p_t        A_t ~ Poisson(p_t n),  n = those who answer when drawn

In a quiet federation nobody says that it is there. What a round needs is not how many devices exist
but how many answer, n: who is off, busy or gone is not in it. An operator declares how many there
may be at most; from the first round on n is inferred, and each round draws the share p that makes
its cohort complete in nearly all rounds.

A belief over sizes, in steps of 4.4%, is multiplied by the chance of what a round showed, as
`pacing.py` does with shares, and from the same sources (Tobin 1958 for rounds that closed early,
Rabiner 1989 for what changes unannounced). The number of those who draw less than p and answer is
binomial, and where p is small Poisson, which is taken for both.

- A round that was cut off by its deadline shows the number: A answers, no more. Then the estimate
  A / p has a relative error (one standard deviation) of 1 / sqrt(A): 3% of a cohort of 1000.
- A round that closed as its cohort was complete, or for which a site's centre left too little
  time, shows that no fewer would have answered. Those who draw less begin sooner
  (`Sortition.begin_s`): where the k answers with the smallest draws are of draws below x, at least
  k - 1 answer of those that draw less than x. So a fleet that is far larger than believed is found
  out while most of those who were drawn have not begun. Which share of those who had begun was done
  is not known: any is taken for as likely, by which n is twice as large with half the chance.

After each round a little of the belief spreads, and a little goes back to what was believed at
first: those who are there change by day and by night. What is told to people is the median, and
between which sizes nine tenths of the belief are.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from coordinator.pacing import COMPLETE_SHARE, tail

STEPS_PER_DOUBLING = 16
"""Sizes are in steps of 4.4%: half of one is less than chance makes of 1000 answers."""

LARGEST = 32 * STEPS_PER_DOUBLING
"""The step of 4 billion."""

SELDOM = 2.0**-10
"""Of those declared, so few may answer, by what is believed at first."""

MORE = 2.0**10
MORE_SHARE = 0.002
"""And so many times as many, which is hardly believed: who declares too few is found out."""

CHANGE_SHARE = 0.01
"""How likely quite another number will answer in the next round."""

DRIFT_SHARE = 0.15
"""How likely it is the next lower size, and as likely the next higher."""

UNSURE = 2.0
"""Where nine tenths of the belief span more than a factor of so much, little is known."""

_HARDLY = 1e-7
"""Sizes that are believed less are dropped."""

_LOW, _HIGH = 0.05, 0.95
_WELL_MAY = 0.9
_EARLY = 0.8
"""Where the last of those who answered had an earlier turn, others had not begun."""
_SHARES_TRIED = 60
"""Halvings of the interval in which the share to draw is looked for."""

Belief = tuple[tuple[int, float], ...]
"""(step, how likely so many answer), in order of steps; sums to 1. See `size`. JSON keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one closed round showed."""

    share: float
    """Of all clients, that was drawn."""
    answered: int
    was_cut_off: bool
    """By its deadline, and not before its time: who would have answered has."""
    turns: tuple[float, ...] = ()
    """Of those who answered: their draws, as shares of the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of how many would answer."""

    size: int
    """As likely more as fewer."""
    low: int
    high: int
    """Between which nine tenths of the belief are."""

    @property
    def is_sure(self) -> bool:
        return self.high <= UNSURE * self.low


def begin(declared: int) -> Belief:
    """Before the first round of a fleet that may have so many clients: any order of magnitude up to
    that is as likely."""
    lowest, most, highest = (_step(declared * times) for times in (SELDOM, 1, MORE))
    thought, more = range(lowest, most + 1), range(most + 1, highest + 1)
    share = (1 - MORE_SHARE if more else 1.0) / len(thought)
    unthought = [(step, MORE_SHARE / len(more)) for step in more]
    return (*((step, share) for step in thought), *unthought)


def learn(belief: Belief, declared: int, seen: Seen) -> Belief:
    """What is believed of the next round. Never raises, whatever was seen."""
    logs = {step: math.log(share) + _log_chance(seen, size(step)) for step, share in belief}
    likeliest = max(logs.values())
    weights = {step: math.exp(log - likeliest) for step, log in logs.items()}
    total = sum(weights.values())
    after = {step: weight / total for step, weight in weights.items()}
    return _normalised(_aged(after, declared))


def estimate(belief: Belief) -> Estimate:
    return Estimate(
        size=round(_quantile(belief, 0.5)),
        low=round(_quantile(belief, _LOW)),
        high=round(_quantile(belief, _HIGH)),
    )


def share_to_draw(belief: Belief, cohort: int, at_most: float) -> float:
    """Of all clients: the smallest share with which so many answer in most rounds, by what is
    believed. No more than makes `at_most` answers, should as many answer as may well be."""
    limit = min(1.0, at_most / _quantile(belief, _WELL_MAY))
    likely = [(size(step), weight) for step, weight in belief if weight > 1e-5]

    def is_enough(share: float) -> bool:
        chances = (weight * _chance_of_at_least(cohort, share * n) for n, weight in likely)
        return sum(chances) >= COMPLETE_SHARE

    low, high = 0.0, limit
    if not is_enough(high):
        return limit
    for _ in range(_SHARES_TRIED):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
        if high - low <= 1e-3 * high:
            break
    return high


def size(step: int) -> float:
    return math.exp2(step / STEPS_PER_DOUBLING)


def _step(number: float) -> int:
    return min(LARGEST, max(0, round(STEPS_PER_DOUBLING * math.log2(max(1.0, number)))))


def _quantile(belief: Belief, share: float) -> float:
    below = [*accumulate(weight for _, weight in belief)]
    at = min(bisect_left(below, share * below[-1]), len(belief) - 1)
    return size(belief[at][0])


def _log_chance(seen: Seen, n: float) -> float:
    if seen.share <= 0:
        return 0.0
    mean = seen.share * n
    if seen.was_cut_off:
        return _log_chance_of(seen.answered, mean)
    turns = sorted(seen.turns)
    # The slowest tenth may be of programs that begin when they like.
    at_least = math.ceil(0.9 * len(turns)) - 1
    log = _log_chance_of_at_least(seen.answered, mean)
    if not turns:
        return log
    begun = mean * turns[at_least]
    log += _log_chance_of_at_least(at_least, begun)
    if turns[at_least] < _EARLY and begun > at_least > 0:
        # The share of them that was done may have been any.
        log += math.log(at_least / begun)
    return log


def _aged(belief: Mapping[int, float], declared: int) -> dict[int, float]:
    aged: dict[int, float] = {}
    for step, weight in belief.items():
        for where, part in ((step - 1, 1.0), (step, 1 / DRIFT_SHARE - 2), (step + 1, 1.0)):
            at = min(LARGEST, max(0, where))
            aged[at] = aged.get(at, 0.0) + (1 - CHANGE_SHARE) * DRIFT_SHARE * part * weight
    for step, weight in begin(declared):
        aged[step] = aged.get(step, 0.0) + CHANGE_SHARE * weight
    return aged


def _normalised(weights: Mapping[int, float]) -> Belief:
    kept = {step: weight for step, weight in weights.items() if weight > _HARDLY}
    total = sum(kept.values())
    return tuple((step, kept[step] / total) for step in sorted(kept))


def _log_chance_of(answers: int, mean: float) -> float:
    """Poisson."""
    return answers * math.log(mean) - mean - math.lgamma(answers + 1)


def _log_chance_of_at_least(answers: int, mean: float) -> float:
    if answers <= 0:
        return 0.0
    if mean <= 0:
        return -math.inf
    if answers > mean:
        upwards = tail(lambda i: mean / (answers + i + 1))
        return _log_chance_of(answers, mean) + math.log(upwards)
    below = answers - 1
    downwards = tail(lambda i: (below - i) / mean)
    fewer = math.exp(_log_chance_of(below, mean)) * downwards
    # Of what is all but certain not to be, rounding leaves nothing.
    return math.log1p(-min(fewer, 1 - 1e-15))


def _chance_of_at_least(answers: int, mean: float) -> float:
    return math.exp(_log_chance_of_at_least(answers, mean)) if mean > 0 else float(answers <= 0)

"""The next question about a feature, from the last one and what all clients' sums came to. Pure.

A quantile's bracket becomes the bin of it in which the quantile lies; a histogram whose samples
stand in a few of its bins is asked for again with those. Clients come and go between rounds, so
each step is also undone: where a quantile has left its bracket, the next one lies beside it and is
wider, and so on until it is caught again.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from coordinator.config import Statistics
from fedmqtt import data_query
from fedmqtt.data_query import (
    POWER_EDGES,
    VALUE_MAX,
    CategoryQuery,
    NumberQuery,
    NumberSums,
    Query,
    Sums,
    edges,
)

BRACKET_BINS = 32
_FEW_BINS = 4
"""A histogram that leaves all but one in so many bins empty is narrowed."""
_WIDER = 16
"""What has come outside of a histogram or of the scale is looked for in so many times the width."""
_FINEST = 2.0**-44
"""No range is narrowed below this part of its ends: doubles have no room for bins in between."""
_SCALE_MAX = 8 * VALUE_MAX


def first(categories: int, settings: Statistics) -> Query:
    """About a feature of which nothing is known."""
    if categories:
        return CategoryQuery(categories)
    nowhere = ((0.0, 0.0),) * len(settings.quantiles)
    return NumberQuery(settings.bins, BRACKET_BINS, brackets=nowhere)


def following(name: str, asked: Query, sums: Sums, settings: Statistics) -> Query:
    """The same question where there is no more to know, or where too few clients have an answer."""
    if not isinstance(asked, NumberQuery) or not isinstance(sums, NumberSums):
        return asked
    if sums.clients < settings.clients_min:
        return asked
    if asked.is_first:
        return _second(name, asked, sums, settings)
    low, high = asked.low, asked.high
    if name not in settings.ranges:
        low, high = _range(asked, sums.histogram)
    mean = data_query.mean(asked, sums)
    return NumberQuery(
        bins=asked.bins,
        bracket_bins=asked.bracket_bins,
        shift=asked.shift if mean is None else float(mean),
        # Somebody has come whose samples lie further out.
        scale=min(_SCALE_MAX, asked.scale * _WIDER) if sums.outside else asked.scale,
        low=low,
        high=high,
        brackets=tuple(
            _narrower(bracket, counts, rank(share, sums.samples), settings.samples_min)
            for bracket, counts, share in zip(
                asked.brackets, sums.brackets, settings.quantiles, strict=True
            )
        ),
    )


def rank(share: float, samples: int) -> int:
    """Which sample is the quantile, counted from 1: the smallest below or at which lie `share`."""
    # As it was written: 0.07 is a little more than 7 of 100 as a double.
    return max(1, math.ceil(Fraction(str(share)) * samples))


def bin_of(counts: Sequence[int], wanted: int) -> int:
    """In which of `counts` the sample of that rank is: 0 is below all bins."""
    seen = 0
    for place, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return place
    return len(counts) - 1


def _second(name: str, asked: NumberQuery, sums: NumberSums, settings: Statistics) -> NumberQuery:
    """After the samples by power of two."""
    there = [place for place, count in enumerate(sums.powers) if count]
    low, high = float(POWER_EDGES[there[0]]), float(POWER_EDGES[there[-1] + 1])
    middles = (POWER_EDGES[:-1] + POWER_EDGES[1:]) / 2
    about = sum(middles[place] * sums.powers[place] for place in there) / sums.samples
    given = settings.ranges.get(name)
    # The bins of a bracket, with what is below and above all.
    counts = (0, *sums.powers, 0)
    return replace(
        asked,
        shift=float(about),
        # So wide that all lie within, wherever between them the mean turns out to be.
        scale=2.0 ** math.ceil(math.log2(high - low)),
        low=given[0] if given else low,
        high=given[1] if given else high,
        brackets=tuple(
            held(POWER_EDGES, counts, rank(share, sums.samples), settings.samples_min)
            for share in settings.quantiles
        ),
    )


def _range(asked: NumberQuery, counts: Sequence[int]) -> tuple[float, float]:
    """Of the next histogram."""
    low, high, width = asked.low, asked.high, asked.high - asked.low
    below, *within, above = counts
    if below or above:
        return (
            max(-VALUE_MAX, low - _WIDER * width) if below else low,
            min(VALUE_MAX, high + _WIDER * width) if above else high,
        )
    there = [place for place, count in enumerate(within) if count]
    if not there or there[-1] - there[0] + 1 > max(1, len(within) // _FEW_BINS):
        return low, high
    ends = edges(low, high, asked.bins)
    return _unless_too_fine((low, high), (float(ends[there[0]]), float(ends[there[-1] + 1])))


def _narrower(
    bracket: tuple[float, float], counts: Sequence[int], wanted: int, samples_min: int
) -> tuple[float, float]:
    """The bin of the bracket with the wanted sample; where that is not in it, what lies beside."""
    low, high = bracket
    width = max(high - low, max(abs(low), abs(high)) * _FINEST)
    place = bin_of(counts, wanted)
    if place == 0:
        return max(-VALUE_MAX, low - BRACKET_BINS * width), low
    if place == len(counts) - 1:
        return high, min(VALUE_MAX, high + BRACKET_BINS * width)
    found = held(edges(low, high, len(counts) - 2), counts, wanted, samples_min)
    return _unless_too_fine(bracket, found)


def held(
    ends: data_query.Numbers, counts: Sequence[int], wanted: int, samples_min: int
) -> tuple[float, float]:
    """The bin with the wanted sample, and as many beside it as give `samples_min` together.

    `counts` begins with what is below all bins, and ends with what is above.
    """
    first = last = bin_of(counts, wanted)
    while sum(counts[first : last + 1]) < samples_min and (first > 1 or last < len(counts) - 2):
        first, last = max(1, first - 1), min(len(counts) - 2, last + 1)
    return float(ends[first - 1]), float(ends[last])


def _unless_too_fine(
    before: tuple[float, float], found: tuple[float, float]
) -> tuple[float, float]:
    low, high = found
    return found if high - low > max(abs(low), abs(high)) * _FINEST else before

"""Questions about the features of clients' data, and the sums by which a client answers them.

    question: tensors in a model's file            answer: an update of the same layout
      acc x/asks        shift, scale, edges           zeros
      acc x/counts      zeros                         samples, outside of the scale, who has any
      acc x/moments     zeros                         sums of (x - shift) / scale, and its square
      acc x/powers      zeros                         samples by sign and power of two
      acc x/histogram   zeros                         samples by bin, and below and above all
      acc x/brackets    zeros                         the same within each quantile's bracket
      class/categories  zeros                         samples by category, and who has any

The first question of a feature asks for `powers` alone: nothing is known of it. The next ones ask
for the rest. All numbers are whole or written as words (`whole_numbers.py`), so that sums over
clients are exact. A bin has its lower edge and not its upper one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedmqtt import whole_numbers
from fedmqtt.weights import Array, Layout, Weights

Numbers = NDArray[np.float64]

FRACTION_BITS = 100
"""Of the moments: with a scale of 2^64, a variance of 2^-30 has digits left."""
COUNT_PLACES = 3
SUM_PLACES = 8
"""160 bits: those of the fraction, and sums over 2^59 samples."""

_EXPONENTS = 64
VALUE_MAX = 2.0**_EXPONENTS
"""Features whose values are larger are refused."""
COUNTS_MAX = 2048
"""Of one feature in one answer: more bins would come near to the data itself."""
CATEGORIES_MAX = COUNTS_MAX - 1
"""Of one feature: beside them is told whether the client has any sample."""

_UPWARDS = [2.0**e for e in range(-_EXPONENTS, _EXPONENTS + 1)]
POWER_EDGES: Numbers = np.array([-edge for edge in reversed(_UPWARDS)] + _UPWARDS)
"""Of the bins by sign and power of two; the one in the middle is zero's."""
POWERS = len(POWER_EDGES) - 1

_PARTS = ("asks", "counts", "moments", "powers", "histogram", "brackets")


class QueryError(ValueError):
    """Tensors that are no question, or no answer to one; says which and why."""


@dataclass(frozen=True, slots=True)
class NumberQuery:
    """What is asked of a feature that is a number."""

    bins: int
    bracket_bins: int
    shift: float = 0.0
    """Near the mean, so that what is squared is small."""
    scale: float = 0.0
    """A power of two. Samples that are further from `shift` are counted as outside; 0: the first
    question, which asks for powers alone."""
    low: float = 0.0
    """Of the histogram."""
    high: float = 0.0
    brackets: tuple[tuple[float, float], ...] = ()
    """Between which a quantile lies, for each that is wanted."""

    @property
    def is_first(self) -> bool:
        return self.scale == 0.0


@dataclass(frozen=True, slots=True)
class CategoryQuery:
    """What is asked of a feature that has one of `count` values, as positions."""

    count: int


Query = NumberQuery | CategoryQuery
Queries = Mapping[str, Query]
"""By the feature's name."""


@dataclass(frozen=True, slots=True)
class NumberSums:
    """Over the samples of one client, or of many."""

    clients: int = 0
    """That have any."""
    samples: int = 0
    outside: int = 0
    first: int = 0
    """Sum of (x - shift) / scale, in units of 2^-FRACTION_BITS; without those outside."""
    second: int = 0
    """Sum of its square."""
    powers: tuple[int, ...] = (0,) * POWERS
    histogram: tuple[int, ...] = ()
    """Below, each bin, above."""
    brackets: tuple[tuple[int, ...], ...] = field(default=())
    """For each bracket: below, each bin, above."""


@dataclass(frozen=True, slots=True)
class CategorySums:
    clients: int
    counts: tuple[int, ...]

    @property
    def samples(self) -> int:
        return sum(self.counts)


Sums = NumberSums | CategorySums


def edges(low: float, high: float, bins: int) -> Numbers:
    """Of `bins` bins of equal width, shape (bins + 1,): the same doubles on every machine."""
    found: Numbers = low + (high - low) * (np.arange(bins + 1) / bins)
    # Rounding must not leave a gap to whoever goes by `high` itself.
    found[-1] = high
    return found


# Questions


def layout(queries: Queries) -> Layout:
    """Of the tensors that carry questions and answers."""
    tensors: list[tuple[str, tuple[int, ...]]] = []
    for name, query in queries.items():
        match query:
            case CategoryQuery(count):
                tensors.append((f"{name}/categories", (count + 1, COUNT_PLACES)))
            case NumberQuery(bins, bracket_bins, brackets=brackets):
                wanted = len(brackets)
                shapes = (
                    (4 + 2 * wanted, whole_numbers.WORDS),
                    (3, COUNT_PLACES),
                    (2, SUM_PLACES),
                    (POWERS, COUNT_PLACES),
                    (bins + 2, COUNT_PLACES),
                    (wanted, bracket_bins + 2, COUNT_PLACES),
                )
                tensors += [
                    (f"{name}/{part}", shape) for part, shape in zip(_PARTS, shapes, strict=True)
                ]
    return Layout(tuple(tensors))


def is_layout(found: Layout) -> bool:
    """Whether it is one of questions, and not a model's."""
    parts = {name.rpartition("/")[2] for name, _ in found.tensors}
    return bool(parts) and parts <= {*_PARTS, "categories"}


def write_queries(queries: Queries) -> Array:
    """One flat vector in the order of `layout`."""
    where = layout(queries)
    flat = np.zeros(where.size, np.float32)
    tensors = where.unflatten(flat)
    for name, query in queries.items():
        if isinstance(query, NumberQuery):
            ends = [end for bracket in query.brackets for end in bracket]
            asks = [query.shift, query.scale, query.low, query.high, *ends]
            tensors[f"{name}/asks"][...] = whole_numbers.words(asks)
    return flat


def read_queries(tensors: Weights) -> dict[str, Query]:
    """What is asked, from whoever sent it. Raises QueryError."""
    found: dict[str, Query] = {}
    for key in tensors:
        name, _, part = key.rpartition("/")
        if part == "categories":
            found[name] = _read_category_query(name, tensors[key])
        elif part == "asks":
            found[name] = _read_number_query(name, tensors)
    # Whatever is missing, or is in its place twice or in another shape, is seen here.
    if dict(layout(found).tensors) != {name: array.shape for name, array in tensors.items()}:
        raise QueryError("tensors that are no questions about data")
    return found


def _read_category_query(name: str, tensor: Array) -> CategoryQuery:
    if tensor.ndim != 2 or not 1 < len(tensor) <= COUNTS_MAX:
        raise QueryError(f"1 to {CATEGORIES_MAX} categories of {name!r} can be counted")
    return CategoryQuery(len(tensor) - 1)


def _read_number_query(name: str, tensors: Weights) -> NumberQuery:
    histogram, brackets = tensors.get(f"{name}/histogram"), tensors.get(f"{name}/brackets")
    if histogram is None or brackets is None or histogram.ndim != 2 or brackets.ndim != 3:
        raise QueryError(f"what is asked about {name!r} is not whole")
    bins, (wanted, within, _) = len(histogram) - 2, brackets.shape
    if bins < 1 or within < 3 or bins + wanted * within > COUNTS_MAX:
        raise QueryError(
            f"{bins} bins and {wanted} brackets of {within - 2} are asked for of {name!r}; at least"
            f" 1 is needed, and at most {COUNTS_MAX} counts are told"
        )
    try:
        asked = whole_numbers.numbers(tensors[f"{name}/asks"])
    except ValueError as bad:
        raise QueryError(f"what is asked about {name!r} has {bad}") from bad
    if len(asked) != 4 + 2 * wanted:
        raise QueryError(f"what is asked about {name!r} is not whole")
    shift, scale, low, high, *ends = asked
    pairs = tuple(zip(ends[::2], ends[1::2], strict=True))
    if any(below > above for below, above in ((low, high), *pairs)):
        raise QueryError(f"a range asked for of {name!r} ends before it begins")
    if max(map(abs, asked)) > 16 * VALUE_MAX or (scale and math.frexp(scale)[0] != 0.5):
        raise QueryError(f"what is asked about {name!r} is beyond all bounds")
    return NumberQuery(bins, within - 2, shift, scale, low, high, pairs)


# Answers


def sums_of(query: Query, values: Numbers) -> Sums:
    """What one client's values of a feature, shape (n,), come to. Finite, and below VALUE_MAX."""
    if isinstance(query, CategoryQuery):
        counts = np.bincount(values.astype(np.int64), minlength=query.count)
        return CategorySums(int(len(values) > 0), tuple(map(int, counts)))
    nothing = NumberSums(
        clients=int(len(values) > 0),
        samples=len(values),
        histogram=(0,) * (query.bins + 2),
        brackets=((0,) * (query.bracket_bins + 2),) * len(query.brackets),
    )
    if query.is_first:
        return replace(nothing, powers=_counted(values, POWER_EDGES)[1:-1])
    away = (values - query.shift) / query.scale
    inside = away[np.abs(away) <= 1.0]
    return replace(
        nothing,
        outside=len(away) - len(inside),
        first=_in_units(math.fsum(inside)),
        second=_in_units(math.fsum(inside * inside)),
        histogram=_counted(values, edges(query.low, query.high, query.bins)),
        brackets=tuple(
            _counted(values, edges(low, high, query.bracket_bins)) for low, high in query.brackets
        ),
    )


def _counted(values: Numbers, ends: Numbers) -> tuple[int, ...]:
    """Of values below all bins, in each, and above all."""
    places = np.searchsorted(ends, values, side="right")
    return tuple(map(int, np.bincount(places, minlength=len(ends) + 1)))


def _in_units(number: float) -> int:
    return int(math.ldexp(number, FRACTION_BITS))


def write_sums(queries: Queries, sums: Mapping[str, Sums]) -> Array:
    """One flat vector in the order of `layout`."""
    where = layout(queries)
    flat = np.zeros(where.size, np.float32)
    tensors = where.unflatten(flat)
    for name, one in sums.items():
        match one:
            case CategorySums(clients, counts):
                tensors[f"{name}/categories"][...] = _digits([clients, *counts])
            case NumberSums():
                counts = (one.samples, one.outside, one.clients)
                tensors[f"{name}/counts"][...] = _digits(counts)
                moments = whole_numbers.digits((one.first, one.second), SUM_PLACES)
                tensors[f"{name}/moments"][...] = moments
                tensors[f"{name}/powers"][...] = _digits(one.powers)
                tensors[f"{name}/histogram"][...] = _digits(one.histogram)
                for row, counts in zip(tensors[f"{name}/brackets"], one.brackets, strict=True):
                    row[...] = _digits(counts)
    return flat


def _digits(counts: Sequence[int]) -> Array:
    return whole_numbers.digits(counts, COUNT_PLACES)


def read_sums(queries: Queries, flat: NDArray[np.float32] | NDArray[np.int64]) -> dict[str, Sums]:
    """One client's answer, or the sum of many, digit by digit: shape (size,), of whole numbers."""
    tensors: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {}
    start = 0
    for name, shape in layout(queries).tensors:
        stop = start + math.prod(shape)
        tensors[name] = flat[start:stop].reshape(shape)
        start = stop
    return {name: _read_sums(name, query, tensors) for name, query in queries.items()}


def _read_sums(
    name: str, query: Query, tensors: Mapping[str, NDArray[np.float32] | NDArray[np.int64]]
) -> Sums:
    read = whole_numbers.whole_numbers
    if isinstance(query, CategoryQuery):
        clients, *counts = read(tensors[f"{name}/categories"])
        return CategorySums(clients, tuple(counts))
    samples, outside, clients = read(tensors[f"{name}/counts"])
    first, second = read(tensors[f"{name}/moments"])
    return NumberSums(
        clients=clients,
        samples=samples,
        outside=outside,
        first=first,
        second=second,
        powers=tuple(read(tensors[f"{name}/powers"])),
        histogram=tuple(read(tensors[f"{name}/histogram"])),
        brackets=tuple(tuple(read(rows)) for rows in tensors[f"{name}/brackets"]),
    )


def fault(queries: Queries, flat: Array, samples: int) -> str:
    """What is wrong with one client's answer, shape (size,), or nothing.

    `samples` is what it says to have. Who lies consistently is not found out.
    """
    if not whole_numbers.are_digits(flat):
        return "sums that are not written as digits of 20 bits"
    for name, one in read_sums(queries, flat).items():
        query = queries[name]
        if one.clients != int(one.samples > 0) or not 0 <= one.samples <= samples:
            return f"counts {one.samples} samples of {name!r}, of {samples} in all"
        wrong = (
            min(one.counts) < 0
            if isinstance(one, CategorySums)
            else isinstance(query, NumberQuery) and _contradicts(one, query)
        )
        if wrong:
            return f"the sums of {name!r} contradict each other"
    return ""


def _contradicts(sums: NumberSums, query: NumberQuery) -> bool:
    rows = (sums.powers, sums.histogram, *sums.brackets)
    totals = [sum(row) for row in rows]
    asked = [query.is_first] + [not query.is_first] * (len(rows) - 1)
    inside = (sums.samples - sums.outside) << FRACTION_BITS
    return (
        any(min(row) < 0 for row in rows)
        or totals != [sums.samples if is_asked else 0 for is_asked in asked]
        or not 0 <= sums.outside <= sums.samples
        or (query.is_first and (sums.outside, sums.first, sums.second) != (0, 0, 0))
        or not abs(sums.first) <= inside
        or not 0 <= sums.second <= inside
    )


# What they come to


def mean(query: NumberQuery, sums: NumberSums) -> Fraction | None:
    """Of the samples that were not outside; None where there are none."""
    count = sums.samples - sums.outside
    if query.is_first or not count:
        return None
    return Fraction(query.shift) + Fraction(query.scale) * Fraction(
        sums.first, count << FRACTION_BITS
    )


def variance(query: NumberQuery, sums: NumberSums) -> Fraction | None:
    """Of the population: the mean square of the distance to the mean."""
    count = sums.samples - sums.outside
    if query.is_first or not count:
        return None
    unit = count << FRACTION_BITS
    found = Fraction(sums.second, unit) - Fraction(sums.first, unit) ** 2
    # Both sums were rounded.
    return max(Fraction(0), found) * Fraction(query.scale) ** 2

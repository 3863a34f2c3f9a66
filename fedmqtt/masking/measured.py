"""What clients measure of a model, as whole numbers that add up under the mask, and their sums.

At the end of a tail (`values.py`) stand, where the masking says what is measured,

    1           whether the client measured
    1           whether a figure of its was clipped
    1           its samples, w: `SAMPLES_MAX` count at most
    for each metric
        1       whether the client has it
        1       w, if it has
        4       w * value, in steps of 2^-24, plus 2^63: digits of 16 bits, the lowest first
    with classes
        1       whether the client has a matrix of so many
        n * n   its cells, row by row

Words are masked modulo 2^32, and each of these numbers is below 2^16: the sums of 65,535 clients
fit, so none wraps, and they come back exactly. A value is clipped to `VALUE_MAX` of either sign and
rounded to the nearest step, so that a mean is off by 2^-25 at most. Who has more samples than count
is told as one with so many, its matrix in proportion. What a client lacks, as one whose task
measures otherwise does, is zeros: means are of those that have a metric.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedmqtt.masking.packing import Words
from fedmqtt.messages import Confusion, Masking, Measures

SAMPLES_MAX = 2**16 - 1
"""That count of one client."""
VALUE_MAX = 2.0**23
"""Of a metric, of either sign: what is beyond is clipped to it."""

_FRACTION_BITS = 24
_OFFSET = 1 << 63
_DIGITS, _DIGIT_BITS = 4, 16
_COUNTS = 3
_OF_METRIC = 2 + _DIGITS


@dataclass(frozen=True, slots=True)
class MetricSum:
    """Of one metric, over the clients that have it."""

    clients: int
    samples: int
    total: int
    """Of samples times value, in steps of 2^-24: of either sign."""

    @property
    def mean(self) -> float:
        """Weighted by samples, of which there are some."""
        return self.total / (self.samples << _FRACTION_BITS)

    @property
    def is_possible(self) -> bool:
        """Whether clients that do as they are told can have sent it."""
        bound = self.samples * int(VALUE_MAX) << _FRACTION_BITS
        return are_samples(self.samples, self.clients) and abs(self.total) <= bound


@dataclass(frozen=True, slots=True)
class MeasuredSum:
    """Of a round: nothing of it was looked at, and a client may have sent what it liked."""

    clients: int
    """That measured."""
    clipped: int
    """Of them, those of whom a figure was clipped, or not all samples count."""
    samples: int
    metrics: dict[str, MetricSum]
    classified: int
    """Of the clients, those that have a matrix."""
    confusion: Confusion
    """Theirs; empty where none was asked for."""


def size(masking: Masking) -> int:
    """How many words a client's measures take."""
    if not masking.is_measured:
        return 0
    matrix = 1 + masking.classes**2 if masking.classes else 0
    return _COUNTS + _OF_METRIC * len(masking.metrics) + matrix


def are_samples(samples: int, clients: int) -> bool:
    """Whether so many clients can have so many."""
    return clients <= samples <= clients * SAMPLES_MAX


def to_words(masking: Masking, measures: Measures | None) -> Words:
    """Shape (size,). All of them zeros for a client that has not measured."""
    if measures is None or not masking.is_measured:
        return np.zeros(size(masking), np.uint32)
    samples = min(measures.sample_count, SAMPLES_MAX)
    found = [measures.metrics.get(name, math.nan) for name in masking.metrics]
    is_clipped = measures.sample_count > samples or any(abs(one) > VALUE_MAX for one in found)
    words = [1, int(is_clipped), samples]
    for value in found:
        words += _of_metric(value, samples)
    if masking.classes:
        words += _of_matrix(masking.classes, measures, samples)
    return np.array(words, np.uint32)


def from_sum(masking: Masking, words: Words) -> MeasuredSum | None:
    """What the last words of a sum, shape (size,) at least, tell: whatever they are. None where
    nothing was asked for."""
    if not masking.is_measured:
        return None
    numbers = iter(words[-size(masking) :].tolist())
    clients, clipped, samples = _taken(numbers, _COUNTS)
    metrics = {name: _metric(_taken(numbers, _OF_METRIC)) for name in masking.metrics}
    classified, cells = (next(numbers), list(numbers)) if masking.classes else (0, [])
    return MeasuredSum(
        clients, clipped, samples, metrics, classified, _rows(cells, masking.classes)
    )


def _taken(numbers: Iterator[int], count: int) -> list[int]:
    return [next(numbers) for _ in range(count)]


def _of_metric(value: float, samples: int) -> list[int]:
    if math.isnan(value):
        return [0] * _OF_METRIC
    bounded = max(-VALUE_MAX, min(VALUE_MAX, value))
    shifted = _OFFSET + samples * round(math.ldexp(bounded, _FRACTION_BITS))
    mask = (1 << _DIGIT_BITS) - 1
    return [1, samples, *(shifted >> _DIGIT_BITS * at & mask for at in range(_DIGITS))]


def _metric(words: Sequence[int]) -> MetricSum:
    clients, samples, *digits = words
    shifted = sum(digit << _DIGIT_BITS * at for at, digit in enumerate(digits))
    return MetricSum(clients, samples, shifted - clients * _OFFSET)


def _of_matrix(classes: int, measures: Measures, samples: int) -> list[int]:
    rows = measures.confusion or ()
    cells = [cell for row in rows for cell in row]
    is_square = [len(row) for row in rows] == [classes] * classes
    if not is_square or min(cells) < 0 or sum(cells) != measures.sample_count:
        return [0] * (1 + classes**2)
    return [1, *_in_proportion(cells, samples)]


def _in_proportion(cells: Sequence[int], samples: int) -> list[int]:
    """Whole numbers that add up to `samples`, each within one of its share (largest remainders)."""
    total = sum(cells)
    if total == samples:
        return list(cells)
    shares = [divmod(cell * samples, total) for cell in cells]
    found = [whole for whole, _ in shares]
    by_rest = sorted(range(len(cells)), key=lambda at: (-shares[at][1], at))
    for at in by_rest[: samples - sum(found)]:
        found[at] += 1
    return found


def _rows(cells: Sequence[int], classes: int) -> Confusion:
    return tuple(tuple(cells[at * classes : (at + 1) * classes]) for at in range(classes))

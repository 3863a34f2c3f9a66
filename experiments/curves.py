"""When did a curve reach its target? The way McMahan et al. (2017, section 3) read theirs.

    accuracy     o          each model's
              o     o
           --/-------------- target
         o  .              crossed between two models, on the line between the best so far

They "construct a learning curve for each parameter setting, optimizing η as described above and
then making each curve monotonically improving by taking the best value of test-set accuracy
achieved over all prior rounds. We then calculate the number of rounds where the curve crosses the
target accuracy, using linear interpolation between the discrete points forming the curve."
"""

from collections.abc import Iterable, Sequence
from statistics import mean

from coordinator.persistence.history import Record

Curve = Sequence[tuple[float, float]]
"""(x, accuracy), in order of x."""


def crossing(curve: Curve, target: float) -> float | None:
    """The x at which the best so far reaches the target, interpolated; None where it never does."""
    before_x, best = 0.0, -1.0
    for x, accuracy in curve:
        if accuracy >= target:
            # The first model of all may be good enough already.
            share = 1.0 if best < 0 else (target - best) / (accuracy - best)
            return before_x + share * (x - before_x)
        before_x, best = x, max(best, accuracy)
    return None


def by_round(records: Iterable[Record]) -> Curve:
    """x: how many rounds had closed when the model was made. A record's figures are of the model
    that its round began with."""
    return [
        (record.round - 1, record.figures.metrics["accuracy"])
        for record in records
        if record.figures is not None
    ]


def by_hour(records: Sequence[Record], closed_s: Sequence[float]) -> Curve:
    """x: hours of the fleet's time when the model was made. `closed_s`: when each record's round
    closed, in seconds since the run began."""
    made_s = [0.0, *closed_s]
    return [
        (at_s / 3600, record.figures.metrics["accuracy"])
        for at_s, record in zip(made_s, records, strict=False)
        if record.figures is not None
    ]


def by_uplink(records: Sequence[Record], bytes_up: Sequence[int]) -> Curve:
    """x: bytes that clients had sent when the model was made. `bytes_up`: when each record's round
    closed, since the run began."""
    return [
        (float(sent), record.figures.metrics["accuracy"])
        for sent, record in zip([0, *bytes_up], records, strict=False)
        if record.figures is not None
    ]


def latest(records: Iterable[Record], count: int) -> float:
    """Mean accuracy of so many of the last models: single ones go up and down."""
    return mean(accuracy for _, accuracy in by_round(records)[-count:])


def mean_if_all(found: Sequence[float | None]) -> float | None:
    """None where not all of them are there."""
    there = [one for one in found if one is not None]
    return mean(there) if len(there) == len(found) else None


def smooth(curve: Curve, count: int) -> Curve:
    """Each point with the mean of the last `count` accuracies; shorter by the first ones."""
    return [
        (curve[at][0], mean(accuracy for _, accuracy in curve[at - count + 1 : at + 1]))
        for at in range(count - 1, len(curve))
    ]

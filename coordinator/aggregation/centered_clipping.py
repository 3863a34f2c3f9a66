"""Centred clipping: changes are cut to a radius around the last round's, then averaged.

    v <- v + (1/n) sum_k (x_k - v) min(1, radius / |x_k - v|)        from the v of the round before

No samples counted.

Source: Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust Optimization", ICML
2021, centered clipping. Without a radius it is the median of the distances |x_k - v|, of each step.
`f` matters to `before` alone. Remembers v, one model's size; keeps all updates of a round on disk.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from coordinator.aggregation import Memory, Round
from coordinator.robust.rows import Rows, Values
from coordinator.robust.rule import RobustRule, RobustSettings
from fedmqtt.weights import Array


class Settings(RobustSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    radius: Annotated[
        float,
        Meta(
            ge=0,
            le=1e12,
            description="How far from the centre a change counts in full; 0: the median.",
        ),
    ] = 0.0
    iterations: Annotated[
        int, Meta(ge=1, le=100, description="Steps towards the clipped mean.")
    ] = 1


def build(settings: Settings, round_: Round) -> RobustRule:
    def rule(rows: Rows, f: int) -> Values:
        return _around_the_last(rows, settings, round_.memory)

    return RobustRule(settings, round_, rule, name="centered_clipping")


def _around_the_last(rows: Rows, settings: Settings, memory: Memory) -> Values:
    centre = memory.get("centre")
    if centre is None:
        centre = np.zeros(rows.size, np.float32)
    found = centered_clipping(rows, centre, settings)
    # Rounded to what is remembered before it is used.
    memory["centre"] = kept = found.astype(np.float32)
    return kept.astype(np.float64)


def centered_clipping(rows: Rows, centre: Array, settings: Settings) -> Values:
    # v stays a weighted sum of the centre (place 0) and the rows: inner products are enough.
    gram = _gram_with(rows, centre)
    own = np.diag(gram)[1:]
    weights = np.zeros(rows.count + 1)
    weights[0] = 1.0
    for _ in range(settings.iterations):
        towards = gram @ weights
        distances = np.sqrt(np.maximum(own - 2 * towards[1:] + weights @ towards, 0.0))
        radius = settings.radius or float(np.median(distances))
        kept = np.divide(radius, distances, out=np.ones(rows.count), where=distances > radius)
        kept /= rows.count
        weights *= 1 - kept.sum()
        weights[1:] += kept
    found: Values = weights[0] * centre.astype(np.float64) + rows.combine(weights[1:])
    return found


def _gram_with(rows: Rows, centre: Array) -> Values:
    gram = np.empty((rows.count + 1, rows.count + 1))
    gram[0, 0] = np.square(centre.astype(np.float64)).sum()
    gram[0, 1:] = gram[1:, 0] = rows.dots(centre)
    gram[1:, 1:] = rows.gram()
    return gram

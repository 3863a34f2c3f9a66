"""Federated averaging with momentum at the server: rounds that agree add up, others cancel.

    v_next = momentum * v + d        d: the weighted mean of the changes, as in fedavg
    w_next = w + rate * v_next

Source: Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated
Visual Classification", 2019 (FedAvgM); `rate` is their server learning rate. In the
long run it moves rate / (1 - momentum) times as far as averaging: with the defaults, as far.
Remembers v, one model's size.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.sums.weighted_mean import Values, WeightedMean
from fedmqtt.weights import Array

MEAN_ALONE = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[
        float,
        Meta(gt=0, le=10, description="Server step. Above 1 - momentum it goes beyond averaging."),
    ] = 0.1
    momentum: Annotated[
        float, Meta(ge=0, lt=1, description="How much of the last rounds' direction is kept.")
    ] = 0.9


def build(settings: Settings, round_: Round) -> WeightedMean:
    memory = round_.memory

    def step(base: Array, mean: Values) -> Array:
        velocity = mean
        if (before := memory.get("velocity")) is not None:
            velocity = mean + settings.momentum * before
        # Stepped by what is remembered, to the bit: rounded first.
        memory["velocity"] = kept = velocity.astype(np.float32)
        return (base + settings.rate * kept.astype(np.float64)).astype(np.float32)

    return WeightedMean(round_.exact_sum(), step)

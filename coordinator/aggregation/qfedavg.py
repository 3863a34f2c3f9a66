"""q-FedAvg: clients with a high loss count for more, so that the model serves all of them alike.

    D_k = L (w - w_k)        h_k = q F_k^(q-1) |D_k|^2 + L F_k^q        L = 1 / learning_rate
    w_next = w - rate * sum_k p_k F_k^q D_k / sum_k p_k h_k

F_k is the loss of the round's model over the samples that the client trains on, which it measures
before it trains. With q = 0 it is fedavg. The larger q, the more the worst count, and the smaller
the steps, which many local steps make smaller still: `rate`, 1 in the paper, makes up for that. p_k
= n_k / n here; the paper samples clients with these probabilities instead.

Who claims a high loss counts for more. A loss counts as no more than twice the highest of the round
before, which is remembered, and `loss_max` bounds it in any case; that is ours. Robust rules are
the cure where clients may be hostile.

Source: Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020, algorithm 2.
"""

from fractions import Fraction
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt.fixed_point import squared_norm
from fedmqtt.messages import Method, Training, Update
from fedmqtt.weights import Array

_LOSS_MIN = 1e-10
"""A client without any loss has no say, and F^(q-1) would be infinite."""

_HIGHEST = "highest_loss"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    q: Annotated[
        float, Meta(ge=0, le=20, description="How much the worst count for more; 0 is averaging.")
    ] = 1.0
    rate: Annotated[
        float,
        Meta(gt=0, le=100, description="How many of the paper's steps to take; 1 is its own."),
    ] = 1.0
    loss_max: Annotated[
        float, Meta(gt=0, le=1e6, description="Updates that claim a higher loss are rejected.")
    ] = 100.0


def method(settings: Settings) -> Method:
    return Method(tells_loss=True)


def fault(settings: Settings, training: Training, update: Update) -> str:
    # Written so that NaN, too, is outside.
    if update.base_loss is None or not 0 <= update.base_loss <= settings.loss_max:
        return (
            f"tells a loss of {update.base_loss} before training; aggregation_settings.loss_max is"
            f" {settings.loss_max:g}"
        )
    return ""


class QFedAvg:
    """Two exact sums: of changes times F^q, and of h_k."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._settings = settings
        self._lipschitz = 1 / round_.training.learning_rate
        self._memory = round_.memory
        self._running = round_.exact_sum()
        self._h = Fraction(0)
        self._highest = 0.0
        self._loss = 1.0
        """Of the update that is folded next."""
        self._counts_most = settings.loss_max
        if (before := self._memory.get(_HIGHEST)) is not None:
            # F^q is a share of its largest value. Of one that nobody comes near, shares would be
            # too small for what the exact sum resolves.
            self._counts_most = min(settings.loss_max, max(2 * float(before[0]), _LOSS_MIN))

    def hear(self, named: Named, update: Update) -> None:
        assert update.base_loss is not None, "`fault` was asked"
        self._loss = max(update.base_loss, _LOSS_MIN)

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        q, loss = self._settings.q, min(self._loss, self._counts_most)
        self._highest = max(self._highest, self._loss)
        # At most 1, so what is added is within the limits that the sum has room for.
        share = (loss / self._counts_most) ** q
        self._running.add((change * np.float32(share)).astype(np.float32), sample_count)
        h = share * (1 + q * self._lipschitz * squared_norm(change) / loss)
        self._h += Fraction(h) * sample_count

    def finish(self, base: Array) -> Array:
        weight = self._running.weight
        if weight == 0:
            return base
        self._memory[_HIGHEST] = np.array([self._highest], np.float32)
        # Both divided by L, and by the largest F^q.
        step = self._running.mean() / float(self._h / weight)
        return (base + self._settings.rate * step).astype(np.float32)


def build(settings: Settings, round_: Round) -> QFedAvg:
    return QFedAvg(settings, round_)

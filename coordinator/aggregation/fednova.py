"""FedNova: clients may make different numbers of steps, and nobody counts for more by making more.

    d_k = (w_k - w) / a_k        w_next = w + rate * (sum_k p_k a_k) * (sum_k p_k d_k)

p_k = n_k / n, and a_k is the L1 norm of the factors with which a client's gradients went into its
change: with plain SGD, its count of steps. Plain averaging, where some make more steps than others,
ends at the minimum of another loss than the mean of theirs.

So partial work counts: a client that runs out of time sends what it has, and how many steps it
made. Who does not say how many counts as having made all that its samples come to.

Source: Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated
Optimization", NeurIPS 2020: section 4, eq. 8, with the a_k of momentum and of a proximal term from
section 3.1. The effective number of steps is the mean of a_k, so that clients which all do the
same give fedavg.
"""

import math
from fractions import Fraction
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums.weighted_mean import Rate
from fedmqtt.fixed_point import ExactSum
from fedmqtt.messages import Method, Training, Update
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0
    partial: Annotated[
        bool,
        Meta(description="Who runs out of time sends what it has; else it finishes, and is late."),
    ] = True


def method(settings: Settings) -> Method:
    return Method(partial=settings.partial)


def training(settings: Settings, training: Training) -> Training:
    if training.momentum and training.proximal:
        raise SettingsError(
            "training: fednova knows what a step counts for with momentum, and with a proximal"
            " term, but not with both; set one of the two to 0"
        )
    if training.learning_rate * training.proximal >= 1:
        raise SettingsError(
            "training: learning_rate * proximal must be below 1, or local SGD overshoots the model"
            " that it is pulled back to"
        )
    return training


def fault(settings: Settings, training: Training, update: Update) -> str:
    most = training.steps(update.sample_count)
    if update.steps > most:
        return f"claims {update.steps} steps; {update.sample_count} samples come to {most}"
    return ""


def norm(training: Training, steps: int) -> float:
    """a_k of so many steps: what gradients that are all 1 change, with a learning rate of 1."""
    if beta := training.momentum:
        return (steps - beta * (1 - beta**steps) / (1 - beta)) / (1 - beta)
    if alpha := training.learning_rate * training.proximal:
        # 1 - (1 - alpha)^steps, without losing it to rounding where alpha is next to nothing.
        return -math.expm1(steps * math.log1p(-alpha)) / alpha
    return float(steps)


class FedNova:
    """One running sum of changes per step, and one of steps."""

    def __init__(self, settings: Settings, training: Training, running: ExactSum) -> None:
        self._rate = settings.rate
        self._training = training
        self._running = running
        self._norms = Fraction(0)
        self._steps = 0
        """Of the update that is folded next; 0: it was not said."""

    def hear(self, named: Named, update: Update) -> None:
        # A late answer's samples are discounted when it is folded; its steps are of all of them.
        self._steps = update.steps or self._training.steps(update.sample_count)

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        steps, self._steps = self._steps or self._training.steps(sample_count), 0
        # At least 1, so what is added is within the limits that the sum has room for.
        made = np.float32(norm(self._training, steps))
        self._running.add((change / made).astype(np.float32), sample_count)
        self._norms += Fraction(float(made)) * sample_count

    def finish(self, base: Array) -> Array:
        weight = self._running.weight
        if weight == 0:
            return base
        effective = float(self._norms / weight)
        return (base + self._rate * effective * self._running.mean()).astype(np.float32)


def build(settings: Settings, round_: Round) -> FedNova:
    return FedNova(settings, round_.training, round_.exact_sum())

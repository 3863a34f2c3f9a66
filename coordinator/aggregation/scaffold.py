"""SCAFFOLD: local steps corrected by how a client's gradients differ from everybody's.

    each step      w <- w - lr (g(w) - c_i + c)          c, c_i: the controls of all, and its own
    client         c_i' = c_i - c + (w_t - w_i) / (K lr)      after K steps: its mean gradient
    server         w_t+1 = w_t + rate * mean of (w_i - w_t)          c = G / N

So clients with very different data, or many local steps, do not drift apart. c goes out in the
model's file; c_i stays on the device, is what was *counted* of it, and changes with the receipt. Of
it, too, a client sends the change. G is the exact sum of all c_i
(`coordinator/sums/newest_sum.py`), so that c += |S| / N * mean of the changes is true to the last
bit, whatever is lost or repeated.

N is the paper's number of all clients, which nobody knows where they come and go. By default it is
how many have counted so far, and who is new begins with c for its own: it is not corrected in its
first round, and c stays the mean of all c_i. With `clients` set, N is that, and who is new begins
with 0, as in the paper. Clients have the same weight, as there: c would not be the mean otherwise.

It costs twice the bytes both ways, and a file as large as the model on each device. What it means
for clients that are seldom there: their c_i is the gradient of a model of long ago, and the
correction steers by it. After `expire_rounds` it is taken out of c, and the client begins anew.

Source: Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML
2020, algorithm 1 with option II, eq. 4 and 5. Momentum is refused: K lr is not what it divides by.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import Memory, Round
from coordinator.rounds import Named
from coordinator.sums import newest_sum
from coordinator.sums.newest_sum import NewestSum
from coordinator.sums.weighted_mean import Rate
from fedmqtt.messages import Method, Training, Update
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0
    clients: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000_000,
            description="The paper's N: all clients there are. 0: those that have counted so far,\n"
            "and who is new begins with the mean of their controls; else it begins with none.",
        ),
    ] = 0
    expire_rounds: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Who has not answered for so many rounds has no control any more; 0: it\n"
            "stays for ever, and nothing of each client is kept on the disk.",
        ),
    ] = 200


def method(settings: Settings) -> Method:
    return Method(control="from_zero" if settings.clients else "from_mean")


def training(settings: Settings, training: Training) -> Training:
    for name in ("momentum", "proximal"):
        if getattr(training, name):
            raise SettingsError(
                f"training.{name}: with aggregation = 'scaffold' a client's control is its mean"
                f" gradient, found by dividing its change by its steps: set {name} to 0"
            )
    return training


def stores(settings: Settings) -> bool:
    return settings.expire_rounds > 0


def control(settings: Settings, memory: Memory) -> Array | None:
    """c, to be published with the model that this was remembered with; None: it is still 0."""
    mean = newest_sum.mean(memory, settings.clients)
    return None if mean is None else mean.astype(np.float32)


class Scaffold:
    """Two exact sums: of changes for this round, and of controls for ever."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._rate = settings.rate
        self._running = round_.exact_sum()
        self._controls = NewestSum(round_, settings.expire_rounds)

    def judge_control(self, client: ClientId, update: Update, difference: Array) -> str:
        return self._controls.judge(client, update, difference)

    def hear(self, named: Named, update: Update) -> None:
        self._controls.hear(named, update)

    def fold_control(self, difference: Array, named: Named) -> None:
        self._controls.add(difference, named)

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._running.add(change, 1)

    def absorb(self) -> None:
        self._controls.absorb()

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            return base
        self.absorb()
        return (base + self._rate * self._running.mean()).astype(np.float32)


def build(settings: Settings, round_: Round) -> Scaffold:
    return Scaffold(settings, round_)

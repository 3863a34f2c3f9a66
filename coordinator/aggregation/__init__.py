"""How a round's changes become the next model. One file per strategy.

Each defines `Settings`, a struct whose every field has a default, and `build(settings, round)`,
which takes from the `Round` what it needs: one running sum, a set of all changes on disk, memory.

One that asks something of clients says so with `method(settings)` and `training(settings,
training)` (see `coordinator/local_method.py`), and with `fault(settings, training, update)` what is
wrong with an answer that does not give it: a sentence, or nothing. `stores(settings)` tells whether
it needs a store of vectors by client. One whose method asks for controls defines
`control(settings, memory)`: what goes out with the model, or nothing for zeros. One that does not
weigh by samples says for how much its sum must have room: see `coordinator/sums/resolution.py`.

One that goes by the weighted mean of the changes alone says so with `MEAN_ALONE = True`: there is
nothing else where answers are masked (`coordinator/masking/privacy_checks.py`).

An answer that comes when its round has closed is stale, and its count of samples is made smaller
before it is folded (`coordinator/sums/late.py`). A file with `WEIGHS_STALENESS = True` does that
itself; with `NEEDS_BASES = True` it can have the models that stale answers were trained from.

One whose model follows from a single exact sum, in which all answers may as well count alike, says
so with `MEAN_ALONE = True`: it goes together with differential privacy, which puts a sum with noise
in its place (`coordinator/noise/private_sum.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from coordinator.noise.private_sum import PrivateRound, PrivateSum
from coordinator.rounds import Named
from coordinator.sums.client_store import ClientStore
from coordinator.sums.update_set import UpdateSet
from fedmqtt.fixed_point import ExactSum
from fedmqtt.messages import Training, Update
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array

Memory = dict[str, NDArray[Any]]
"""What a strategy keeps from one round for the next: arrays by name, of any shape."""


class KeepModel(Exception):
    """No model can be made of these answers, and the round keeps its own: why, in one sentence."""


UNNUMBERED = RoundId(0)


def _no_base(number: RoundId) -> Array:
    raise KeyError(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a strategy is given when a round opens."""

    size: int
    """Numbers in a model."""
    bits: int
    """Of fraction, in an exact sum: what the limits leave room for."""
    remembered_bits: int = 24
    """Of fraction, in what is remembered of each client, here or there."""
    terms_max: int = 1
    """The most changes that may be folded."""
    seed: int = 0
    """Of the round's chance: the same after a restart."""
    memory: Memory = field(default_factory=dict)
    """What the round before left. What is in it after `finish` is there in the next round, whatever
    happens to the program in between. The arrays in it are read-only: put in new ones."""
    folder: Path = field(default_factory=lambda: Path(gettempdir()))
    """Where an update set lies."""
    number: RoundId = UNNUMBERED
    store: ClientStore | None = None
    """Of vectors by client, for a strategy whose `stores(settings)` asks for one."""
    is_awaited: Callable[[ClientId], bool] = lambda client: False
    """Whether an answer of this client was accepted that is to be folded in a later round."""
    training: Training = field(default_factory=Training)
    """As clients were asked to train."""
    base_of: Callable[[RoundId], Array] = _no_base
    """The model that an earlier round started from, shape (size,), for who `NEEDS_BASES`."""
    private: PrivateRound | None = None
    """By what the round's sum has noise; None where it has none."""
    exact_sums: list[ExactSum] = field(default_factory=list, init=False)
    """Those that the strategy has asked for."""

    def staleness(self, named: Named) -> int:
        """How many rounds ago the round was closed that this answers; 0 for one in time."""
        return max(0, self.number - named.round)

    def exact_sum(self) -> ExactSum:
        """For strategies that need no more than a sum: it is all the memory that they take."""
        private = self.private
        made = PrivateSum(self.size, private) if private else ExactSum(self.size, self.bits)
        self.exact_sums.append(made)
        return made

    def update_set(self) -> UpdateSet:
        """For strategies that need all changes at once. Raises NoRoom."""
        return UpdateSet(self.folder, self.size, self.terms_max)


class Aggregation(Protocol):
    """Built anew for each round, fed each accepted change once, then finished.

    The order in which changes are folded must not matter: clients answer in any order, and after a
    restart the answers that were there are folded again.
    """

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        """Add one client's change (trained minus base), shape (size,), by its count of samples.

        `named` tells whose it is, and to which round: no two have the same.
        """

    def finish(self, base: Array) -> Array:
        """The next model, shape (size,), from the one the round started with. Raises KeepModel."""


@runtime_checkable
class TakesParts(Protocol):
    """Of a strategy that can do with the numbers that were sent, where a codec leaves some out.

    To make all numbers of an update of which a quarter was sent costs the coordinator more than
    the rest that it does with it.
    """

    def fold_part(
        self, places: NDArray[np.int64], values: Array, sample_count: int, named: Named
    ) -> None:
        """As `fold` does a change with `values` at these places, growing, and 0 at all others."""


@runtime_checkable
class SharesByAge(Protocol):
    """Of a strategy with `WEIGHS_STALENESS` that keeps one exact sum: for the sums of sites, which
    are added to that and not folded."""

    def share(self, named: Named) -> float:
        """Of a change, that moves the model: less, the older it is. In (0, 1]."""


@runtime_checkable
class Hears(Protocol):
    """A strategy that goes by more than the change."""

    def hear(self, named: Named, update: Update) -> None:
        """Before each `fold`: what else this update says."""


@runtime_checkable
class Judges(Protocol):
    """A strategy that cannot take every change that is within the limits."""

    def judge(self, client: ClientId, update: Update, change: Array) -> str:
        """What is wrong with it, for its sender; nothing if it may count. Nothing changes here."""


@runtime_checkable
class TakesControls(Protocol):
    """Of a strategy whose method asks for controls: see `fedmqtt/control.py`."""

    def judge_control(self, client: ClientId, update: Update, difference: Array) -> str:
        """As a `Judges`, of how a client's control differs from what was counted of it."""

    def fold_control(self, difference: Array, named: Named) -> None:
        """Add that, shape (size,), before each `fold`."""


@runtime_checkable
class Absorbs(Protocol):
    """A strategy that adds up what clients remember too: none of it may be lost."""

    def absorb(self) -> None:
        """Instead of `finish`, where the round keeps its model: put into memory what was folded."""

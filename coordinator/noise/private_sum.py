"""A round's sum with differential privacy: each answer clipped, all alike, and noise on the whole.

    change ──clip to C──▶ whole steps of a grid ──▶ exact sum ──+ noise, once──▶ mean

It stands where the exact sum stands, so strategies that are a mean need not know of it. All is in
whole numbers, in which the noise's standard deviation is `SIGMA` steps: no rounding tells anything.

The noise is the same whenever the same sum is made, and another for any other: its bits come from
a key that never leaves the run's folder, the round and the sum. A coordinator that was killed makes
the same model again, bit for bit, as it must; were the noise new, who saw both models would average
it away. And one that makes another sum, as from a copy of its folder, gives it noise of its own:
the difference of two sums under the same noise would show what they differ in. (Noise of a tree
belongs to its rounds, and cannot follow the sum: there a run must not go on from an old copy.)
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.noise.differential_privacy import SIGMA, Plan
from fedmqtt.fixed_point import ExactSum, Total, squared_norm
from fedmqtt.privacy import chance, clipping, noise, tree
from fedmqtt.weights import Array

Memory = dict[str, NDArray[Any]]

CLIP = "differential_privacy.clip"
"""What is remembered of an adaptive clip norm: the next one."""


@dataclass(frozen=True, slots=True)
class PrivateRound:
    """What a round's sum goes by."""

    plan: Plan
    key: bytes
    """Of the run's noise."""
    number: int
    memory: Memory
    """From which an adaptive clip norm comes, and into which the next one goes."""
    norm_max: float
    """No change is longer."""

    @property
    def clip(self) -> float:
        if not self.plan.adaptive or (kept := self.memory.get(CLIP)) is None:
            return self.plan.clip_norm
        return float(kept[0])


class PrivateSum(ExactSum):
    """Of changes of `size` numbers. Weights are not asked for: each answer has 1."""

    def __init__(self, size: int, round_: PrivateRound) -> None:
        super().__init__(size, 0)
        self._round = round_
        self._plan = round_.plan
        self._clip = round_.clip
        self._indicators = 0
        """How many were within the clip norm, less how many were not."""

    def _add(self, total: Total, values: Array, weight: int, share: float = 1.0) -> None:
        norm = math.sqrt(squared_norm(values))
        factor = clipping.factor(norm, self._clip, self._plan.clip_units)
        # Towards 0: no whole number is larger than what it was made of, and so no norm is.
        self._add_times(total, values, min(1.0, share) * factor, np.trunc)
        self._indicators += 1 if norm <= self._clip else -1
        self.weight += 1

    def mean(self) -> NDArray[np.float64]:
        """With noise, shape (size,): the same bits whenever it is made of the same answers."""
        count = self.weight
        indicator = self._indicators * self._plan.indicator_units
        exact = np.append(self.total, np.int64(indicator))
        noised = exact + self._noise(exact)
        if self._plan.adaptive:
            self._move_clip(int(noised[-1]) / (self._plan.indicator_units * count))
        mean = noised[:-1].astype(np.float64)
        mean *= self._clip / self._plan.clip_units / count
        return mean

    def _noise(self, exact: Total) -> Total:
        key, number = self._round.key, self._round.number
        if not self._plan.tree_rounds:
            said = hashlib.sha256(exact.astype("<i8").tobytes()).digest()
            bits = chance.keyed(key, b"independent", _told(number), _told(self.weight), said)
            return noise.discrete_gaussian(SIGMA, exact.size, bits)
        assert number <= self._plan.tree_rounds, "the tree has no such round"

        def of_node(node: tree.Node) -> Total:
            bits = chance.keyed(key, b"tree", _told(node.level), _told(node.place))
            return noise.discrete_gaussian(SIGMA, exact.size, bits)

        return tree.increment(number, exact.size, of_node)

    def _move_clip(self, balance: float) -> None:
        """`balance`: of +1 and -1, with noise."""
        share = (1 + balance) / 2
        largest = self._round.norm_max
        moved = clipping.following(self._clip, share, self._plan.quantile, largest)
        self._round.memory[CLIP] = np.array([moved], np.float64)


def _told(number: int) -> bytes:
    return number.to_bytes(8, "little")

"""A robust rule as a strategy: all changes are kept until the round closes, then compared.

answers ──▶ update set on disk ──▶ rows ──nnm, bucketing──▶ rows ──rule──▶ the change that counts
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from coordinator.aggregation import KeepModel, Round
from coordinator.robust import before
from coordinator.robust.rows import Rows, Values
from coordinator.rounds import Named
from fedmqtt.weights import Array


class RobustSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    f: Annotated[
        Annotated[int, Meta(ge=0)] | Annotated[float, Meta(gt=0, lt=0.5)],
        Meta(
            description="How many of a round's answers may be hostile: a whole number, or a share\n"
            "of them below 0.5, rounded down, but at least one."
        ),
    ] = 0.2
    before: Annotated[
        tuple[Literal["nnm", "bucketing"], ...],
        Meta(
            description="What the answers pass through first, in this order: nnm averages each\n"
            "with its nearest neighbours, bucketing averages them in random groups."
        ),
    ] = ()
    bucket: Annotated[int, Meta(ge=2, le=1000, description="Answers in a bucket.")] = 2


def hostile(f: float, count: int) -> int:
    """How many of so many answers may be hostile."""
    if isinstance(f, int):
        return f
    # With none the rule would defend against nobody, and not say so. A share such as 0.29 is a
    # little less in binary, and 29 of 100 are meant.
    return max(1, math.floor(f * count + 1e-9))


class RobustRule:
    """Raises NoRoom."""

    def __init__(
        self,
        settings: RobustSettings,
        round_: Round,
        rule: Callable[[Rows, int], Values],
        *,
        name: str,
        least: Callable[[int], int] = lambda f: 1,
    ) -> None:
        """`rule`: (rows, how many may be hostile) -> the change, shape (size,).

        `least`: how many rows it needs to withstand so many.
        """
        self._settings = settings
        self._seed = round_.seed
        self._rule = rule
        self._name = name
        self._least = least
        self._updates = round_.update_set()

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._updates.add(named, change, sample_count)

    def finish(self, base: Array) -> Array:
        count = len(self._updates)
        if count == 0:
            return base
        f = hostile(self._settings.f, count)
        rows = Rows(self._updates)
        for stage in self._settings.before:
            if stage == "nnm":
                self._check("nearest-neighbour mixing", 2 * f + 1, rows.count, f)
                rows = before.nearest_neighbours_mixed(rows, f)
            else:
                rows = before.bucketed(rows, self._settings.bucket, self._seed)
        self._check(self._name, self._least(f), rows.count, f)
        change = self._rule(rows, f)
        return (base + change).astype(np.float32)

    def _check(self, what: str, needed: int, count: int, f: int) -> None:
        if f == 0 or count >= needed:
            return
        came = len(self._updates)
        left = "" if count == came else f" ({count} after bucketing)"
        raise KeepModel(
            f"{what} needs {needed} answers to withstand {f} hostile, and there were {came}{left}"
        )

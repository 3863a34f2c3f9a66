"""From the fractions that a task tells of its training: which epoch that is, and which batch. Pure.

A task calls `progress` after each batch, with the share of all passes that is done. So the calls
are the batches, and what one of them is of a pass tells how many there are in it.
"""

import math
from dataclasses import dataclass

from edge_client.training_job import Progress

_ROUNDING = 1e-6
"""Shares are sums of fractions: a pass ends a little before or after its whole number."""


@dataclass(slots=True)
class BatchCount:
    epochs: int
    """That will be made."""
    _epoch: int = 0
    _batch: int = 0
    _fraction: float = 0.0

    def heard(self, fraction: float) -> Progress:
        """`fraction` of all passes is done, 0 to 1; one no larger than before is no step."""
        if self.epochs < 1 or not fraction > self._fraction:
            return self._told()
        self._fraction = min(1.0, fraction)
        passes = self._fraction * self.epochs
        epoch = min(self.epochs, max(1, math.ceil(passes - _ROUNDING)))
        self._batch = self._batch + 1 if epoch == self._epoch else 1
        self._epoch = epoch
        return self._told()

    def _told(self) -> Progress:
        return Progress(
            fraction=self._fraction,
            epoch=self._epoch,
            epochs=self.epochs,
            batch=self._batch,
            batches=self._batches(),
        )

    def _batches(self) -> int:
        if not self._batch:
            return 0
        of_this = self._fraction * self.epochs - (self._epoch - 1)
        if of_this < _ROUNDING:
            return 0
        # A batch that is not full counts as one.
        return max(self._batch, math.ceil(self._batch / of_this - _ROUNDING))

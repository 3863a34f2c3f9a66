"""A round's changes as the rows of a matrix that is too large for memory.

Most robust rules need no more of it than its Gram matrix (all inner products, n by n) and, at the
end, a weighted sum of rows: distances follow from inner products,

    |x_i - x_j|^2 = G_ii + G_jj - 2 G_ij

and what is mixed from rows, X' = M X, has G' = M G M^T. So the numbers are read from the disk once
or twice, a block of columns at a time, whatever a rule does, and mixing copies nothing.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from coordinator.sums.update_set import UpdateSet
from fedmqtt.weights import Array

Values = NDArray[np.float64]

_BLOCK_NUMBERS = 2**20
"""Of float64: what is in memory at a time, whatever the count of rows."""


class Rows:
    """Ordered by client, so that every result is the same however the changes came."""

    def __init__(self, updates: UpdateSet) -> None:
        """There must be one."""
        self._stored, self._places = updates.stored()
        self._gram: Values | None = None
        self._mix: Values | None = None
        self.names = updates.names()
        """Of the clients' own rows, before any mixing."""
        self.samples: Values = np.array(updates.samples(), np.float64)
        """How many each row stands for, shape (count,)."""

    @property
    def count(self) -> int:
        return len(self.samples)

    @property
    def size(self) -> int:
        return int(self._stored.shape[1])

    def mixed(self, mix: Values) -> "Rows":
        """Rows that are weighted sums of these; `mix` has shape (new count, count)."""
        new = object.__new__(Rows)
        new._stored, new._places, new.names = self._stored, self._places, self.names
        new._gram = self._raw_gram()
        new._mix = mix if self._mix is None else mix @ self._mix
        new.samples = mix @ self.samples
        return new

    def blocks(self) -> Iterator[tuple[slice, Values]]:
        """Some columns at a time: which, and their numbers in all rows, shape (count, some)."""
        for columns, block in self._raw_blocks():
            yield columns, block if self._mix is None else self._mix @ block

    def gram(self) -> Values:
        """Inner products of the rows, shape (count, count)."""
        raw = self._raw_gram()
        return raw if self._mix is None else self._mix @ raw @ self._mix.T

    def dots(self, vector: Array) -> Values:
        """Inner products of the rows with a vector, shape (count,)."""
        found = np.zeros(self.count)
        for columns, block in self.blocks():
            found += block @ vector[columns].astype(np.float64)
        return found

    def squared_distances(self) -> Values:
        """Between each two rows, shape (count, count)."""
        gram = self.gram()
        own = np.diag(gram)
        # Rounding may leave a little less than nothing of rows that are alike.
        found: Values = np.maximum(own[:, None] + own[None, :] - 2 * gram, 0.0)
        np.fill_diagonal(found, 0.0)
        return found

    def combine(self, weights: Values) -> Values:
        """The sum of the rows, each times its weight, shape (size,)."""
        total = np.empty(self.size)
        if self._mix is not None:
            weights = weights @ self._mix
        for columns, block in self._raw_blocks():
            total[columns] = weights @ block
        return total

    def mean_of(self, chosen: NDArray[np.intp]) -> Values:
        """The mean of some rows, shape (size,)."""
        weights = np.zeros(self.count)
        weights[chosen] = 1.0 / len(chosen)
        return self.combine(weights)

    def _raw_gram(self) -> Values:
        if self._gram is None:
            count = len(self._places)
            self._gram = np.zeros((count, count))
            for _, block in self._raw_blocks():
                self._gram += block @ block.T
        return self._gram

    def _raw_blocks(self) -> Iterator[tuple[slice, Values]]:
        width = max(64, _BLOCK_NUMBERS // len(self._places))
        for start in range(0, self.size, width):
            columns = slice(start, min(start + width, self.size))
            yield columns, self._stored[:, columns][self._places].astype(np.float64)

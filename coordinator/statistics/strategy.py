"""How clients' sums become the next questions: what an aggregation strategy is for updates.

What a round came to is remembered beside the questions: those that were asked, and the sums over
all clients. The newest of it are the findings (`findings.py`).
"""

import numpy as np

from coordinator.aggregation import KeepModel, Round
from coordinator.config import Statistics
from coordinator.rounds import Named
from coordinator.statistics import refine
from fedmqtt import data_query
from fedmqtt.fixed_point import ExactSum
from fedmqtt.weights import Array, Layout

ASKED = "asked"
SUMS = "sums"
ROUND = "round"
"""What is remembered: two vectors like the model, and of which round, as two halves of 16 bits."""


class Described:
    """Keeps one running sum of digits: memory does not grow with the clients."""

    def __init__(self, settings: Statistics, layout: Layout, round_: Round) -> None:
        self._settings = settings
        self._layout = layout
        self._running = ExactSum(round_.size, round_.bits)
        self._bits = round_.bits
        self._memory = round_.memory
        self._number = 0

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        # Not by its samples: sums are not means.
        self._running.add(change, 1)
        self._number = named.round

    def finish(self, base: Array) -> Array:
        if self._running.weight == 0:
            raise KeepModel("nobody has answered")
        asked = data_query.read_queries(self._layout.unflatten(base))
        # Digits are whole numbers: nothing is lost with the fraction.
        sums = data_query.read_sums(asked, self._running.total >> self._bits)
        self._memory[ASKED] = base.copy()
        self._memory[SUMS] = data_query.write_sums(asked, sums)
        self._memory[ROUND] = np.array(divmod(self._number, 2**16), np.float32)
        return data_query.write_queries(
            {
                name: refine.following(name, query, sums[name], self._settings)
                for name, query in asked.items()
            }
        )

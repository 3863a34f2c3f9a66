"""The data plane of a run that describes data: as `answers.py`, with sums for changes.

An answer is checked against the questions that are open. Who lies about its data consistently is
believed: as with a model, a hostile client counts for as much as it claims to have.
"""

from collections.abc import Callable
from pathlib import Path

from coordinator.aggregation import UNNUMBERED, Aggregation, Memory, Round
from coordinator.config import FederationConfig
from coordinator.statistics.strategy import Described
from coordinator.sums.answers import Answers
from fedmqtt import data_query
from fedmqtt.data_query import Queries
from fedmqtt.fixed_point import fraction_bits
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Layout


class SumsOfData(Answers):
    def __init__(
        self,
        config: FederationConfig,
        layout: Layout,
        terms_max: int,
        folder: Path | None = None,
        memory: Memory | None = None,
        *,
        asked: Callable[[], Array],
    ) -> None:
        """`asked` gives the open questions, shape (size,), when a round begins."""
        self._layout = layout
        self._asked = asked
        self._queries: Queries = {}
        super().__init__(config, layout.size, terms_max, folder, memory, shapes=layout.shapes)

    def begin(self, terms_max: int, number: RoundId = UNNUMBERED) -> None:
        self._queries = data_query.read_queries(self._layout.unflatten(self._asked()))
        super().begin(terms_max, number)

    def _build(self, round_: Round) -> Aggregation:
        return Described(self._config.statistics, self._layout, round_)

    def _bits(self, terms_max: int) -> int:
        # Each answer counts once, however many samples it is of.
        return fraction_bits(self._config.limits.change_max, 1, terms_max)

    def _change_fault(self, client: ClientId, update: Update) -> str:
        if fault := super()._change_fault(client, update):
            return fault
        assert self._change is not None
        fault = data_query.fault(self._queries, self._change.full(), update.sample_count)
        if fault:
            self._change = None
        return fault

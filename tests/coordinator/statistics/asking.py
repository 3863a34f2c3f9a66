"""Rounds of questions and sums, as coordinator and devices go through them, without a broker."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coordinator.aggregation import Memory
from coordinator.config import FederationConfig, Statistics
from coordinator.persistence.history import Record
from coordinator.statistics import findings, job, refine
from coordinator.statistics.findings import Findings, NumberFindings
from coordinator.statistics.sums import SumsOfData
from edge_client import describing
from fedmqtt import codec_chain, codec_chance, data_query
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array
from learning_tasks.features import Features

Data = Mapping[str, Sequence[float] | NDArray[np.float64]]
"""One client's, by feature."""
Fleet = Mapping[str, Data]
"""By client."""


class Asking:
    """A run that describes data: `round` by round, with whoever is there."""

    def __init__(self, features: Features, settings: Statistics, folder: Path) -> None:
        self.features = features
        plain = FederationConfig(name="plain", task="task.py", statistics=settings)
        self.config = job.settle(plain)
        queries = {
            name: refine.first(len(categories), settings) for name, categories in features.items()
        }
        self.layout = data_query.layout(queries)
        self.asked = data_query.write_queries(queries)
        self.records: list[Record] = []
        self._folder = folder
        self.restart({})

    def restart(self, memory: Memory) -> None:
        """As after a crash between two rounds: with what was remembered, and nothing else."""
        self.sums = SumsOfData(
            self.config, self.layout, 1000, self._folder, memory, asked=lambda: self.asked
        )

    def answer(self, client: str, data: Data) -> Update:
        """What the device sends."""
        sums, samples = describing.answer(self.layout.unflatten(self.asked), self.features, data)
        return self.update(sums, samples)

    def update(self, sums: Array, samples: int) -> Update:
        codec = codec_chain.read(self.config.codec).text
        chances = codec_chance.of_answer(self.config.seed, self.number, ClientId("any"))
        payload = codec_chain.read(codec).encode(sums, chances)
        return Update(
            run=RunId("r1"),
            round=self.number,
            base=Digest("a" * 64),
            fingerprint="f",
            sample_count=samples,
            codec=codec,
            payload=memoryview(payload),
        )

    @property
    def number(self) -> RoundId:
        return RoundId(len(self.records) + 1)

    def round(self, fleet: Fleet) -> None:
        self.sums.begin(1000, self.number)
        for name, data in fleet.items():
            client, update = ClientId(name), self.answer(name, data)
            assert self.sums.check(client, update) == ""
            self.sums.fold(client, update, evaluates=False)
        self.asked = self.sums.finish(self.asked)
        self.records.append(record(self.number, list(map(ClientId, fleet))))

    def found(self) -> Findings:
        found = findings.findings(
            federation="plain",
            task="task.py",
            run="run",
            layout=self.layout,
            memory=self.sums.memory,
            records=self.records,
            categories=self.features,
            settings=self.config.statistics,
        )
        assert found is not None
        return found

    def number_of(self, name: str) -> NumberFindings:
        found = self.found().features[name]
        assert isinstance(found, NumberFindings), found
        return found


def record(number: RoundId, answered: list[ClientId]) -> Record:
    return Record(
        round=number,
        closed="",
        outcome="averaged",
        reason="",
        base="",
        invited=answered,
        answered=answered,
        dropped=[],
        declined={},
        rejected={},
        evaluated=[],
        late_updates=0,
        duration_s=1.0,
        samples=1,
        train_metrics={},
        figures=None,
        bytes_received=0,
        bytes_published=0,
    )


def pooled(fleet: Fleet, name: str) -> NDArray[np.float64]:
    """All values of a feature, sorted."""
    return np.sort(np.concatenate([np.asarray(data[name], float) for data in fleet.values()]))

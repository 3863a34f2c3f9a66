"""A storm in which answers are differences to what was counted: a few numbers each, and real sums.

Headers tell who answered; here what coordinator and clients remember of each other can be held
against one another, to the last bit, through every kill, loss and repetition that a storm draws.
The coordinator's half is `coordinator/sums/answers.py` itself, made anew after each death of what
would be on its disk.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from coordinator import local_method
from coordinator.aggregation import UNNUMBERED, Memory
from coordinator.config import FederationConfig
from coordinator.rounds import Close, Collecting, Named, State
from coordinator.sums import counted
from coordinator.sums.answers import Answers
from coordinator.sums.client_parts import ClientParts
from coordinator.sums.client_store import ClientStore
from edge_client import local_methods
from edge_client.remembered import Remembered
from edge_client.training_job import Job
from fedmqtt.fixed_point import Total
from fedmqtt.messages import Evaluation, Method, Offer, Update
from fedmqtt.topics import ClientId, Digest, RoundId
from fleet_sim.data_plane import Headers

SIZE = 3
_TERMS_MAX = 1000


def federation(aggregation: str, **settings: Any) -> FederationConfig:
    """Whose strategy asks for differences."""
    return FederationConfig(
        name="storm",
        task="simulated",
        aggregation=aggregation,
        aggregation_settings=settings,
    )


class Differences(Headers):
    """The coordinator's half."""

    def __init__(self, config: FederationConfig) -> None:
        self._config = config
        self._folder = TemporaryDirectory(prefix="storm-")
        """The coordinator's disk."""
        self._kept: dict[Named, Update] = {}
        """Of the answers that were accepted, by name: the ledger has them, or not."""
        self.remembered: Memory = {}
        """As on the disk."""
        self.answers = self._begun()

    @property
    def method(self) -> Method:
        return local_method.asked(self._config)

    def parts(self) -> dict[ClientId, Total]:
        """What the sum holds of each client, as on the disk."""
        store = ClientStore(Path(self._folder.name) / "clients", SIZE)
        last = counted.read(self.remembered)
        parts = ClientParts(self.remembered, last, store, SIZE, UNNUMBERED)
        found = {client: parts.of(client) for client in last}
        return {client: part for client, part in found.items() if part is not None}

    def begin(self, number: RoundId, terms_max: int) -> None:
        self.answers.begin(terms_max, number)

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        return self.answers.check(client, answer)

    @property
    def is_excused(self) -> bool:
        return self.answers.is_excused

    def accept(self, client: ClientId, answer: Update | Evaluation, *, evaluates: bool) -> None:
        if isinstance(answer, Update):
            self._kept[Named(client, answer.round)] = answer
            self.answers.fold(client, answer, evaluates=False)

    def hold(self, named: Named, answer: Update) -> None:
        self._kept[named] = answer
        self.answers.take(named)

    def counted_last(self, client: ClientId) -> RoundId | None:
        return self.answers.counted_last(client)

    def keep(self) -> None:
        self.answers.keep()
        self._end()

    def restart(self, state: State) -> None:
        self.answers = self._begun()
        for named in state.past.held:
            self.answers.take(named)
        if isinstance(state, Collecting):
            answered = [Named(client, state.round) for client in sorted(state.answered)]
            for named in answered:
                self.answers.take(named)
            self.begin(state.round, state.terms_max)
            for named in answered:
                fault = self._fold(named, 0)
                # They were found good when they came, in the same round.
                assert not fault, fault

    def next_model(self, base: Digest, close: Close) -> Digest:
        for named in close.held:
            if self._fold(named, close.round - named.round):
                # What was folded since it was accepted has made it too much.
                self.answers.leave_out(named)
        self.answers.finish(np.zeros(SIZE, np.float32))
        self._end()
        return super().next_model(base, close)

    def _begun(self) -> Answers:
        folder = Path(self._folder.name)
        return Answers(self._config, SIZE, _TERMS_MAX, folder, dict(self.remembered))

    def _fold(self, named: Named, staleness: int) -> str:
        """What is wrong with it, if anything: then it does not count."""
        update = self._kept[named]
        fault = self.answers.check(named.client, update)
        if not fault:
            self.answers.fold(named.client, update, evaluates=False, staleness=staleness)
        return fault

    def _end(self) -> None:
        self.answers.end()
        self.remembered = self.answers.memory


def difference(
    client: ClientId, offer: Offer, draw: Callable[[], float], before: Remembered
) -> tuple[Update, Remembered]:
    """The client's half: what one sends that has learned something, drawn at random."""
    change = np.array([draw() - 0.5 for _ in range(SIZE)], np.float32)
    job = Job(
        client=client,
        purpose="train",
        task="",
        data_dir="",
        model_path="",
        outbox="",
        run=offer.run,
        round=offer.round,
        base=offer.model.digest,
        measure_base=False,
        fingerprint=offer.model.fingerprint,
        training=offer.training,
        codec=offer.codec,
        seed=offer.seed,
        method=offer.method,
    )
    outgoing = local_methods.encode(job, change, before)
    assert outgoing.remembered is not None
    update = Update(
        run=job.run,
        round=job.round,
        base=job.base,
        fingerprint=job.fingerprint,
        sample_count=1,
        codec=job.codec,
        since=outgoing.since,
        whole=outgoing.whole,
        payload=memoryview(outgoing.payload),
    )
    return update, outgoing.remembered

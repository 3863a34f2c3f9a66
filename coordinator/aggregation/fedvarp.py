"""FedVARP: who is not there is stood in for by its last change, which the coordinator remembers.

    v = G / N + mean over the round's answers of (d_k - y_k)        w_next = w + rate * v

y_k is client k's last change, G their sum, N of how many; then y_k becomes d_k. Clients need do
nothing, and send what they always send; the coordinator keeps a model's size of each on its disk,
of at most `clients_max`: the least recently heard of are forgotten. In the paper all y_k begin as
zeros, for a known number of clients. Here one that is not remembered is taken for the mean of those
that are, and N grows as they come.

G and the y_k are whole multiples of 2^-f, so that their sum is exact however long a run lasts.

Source: Jhunjhunwala et al., "FedVARP: Tackling the Variance Due to Partial Client Participation in
Federated Learning", UAI 2022, algorithm 1.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from coordinator.aggregation import Round
from coordinator.rounds import Named
from coordinator.sums import counted
from coordinator.sums.client_store import ClientStore
from coordinator.sums.weighted_mean import Rate
from fedmqtt.fixed_point import Total, on_grid
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Rate = 1.0
    clients_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Of how many clients the last change is kept, a model's size each on the\n"
            "coordinator's disk.",
        ),
    ] = 1000


def stores(settings: Settings) -> bool:
    return True


class FedVARP:
    """Three sums; the clients' last changes lie on the disk."""

    def __init__(self, settings: Settings, round_: Round, store: ClientStore) -> None:
        self._settings = settings
        self._memory = round_.memory
        self._bits = round_.remembered_bits
        self._store = store
        self._rounds = counted.read(round_.memory)
        store.begin(self._rounds)
        self._known = len(self._rounds)
        """N, when the round opened."""
        self._before: Total = round_.memory.get("sum", np.zeros(round_.size, np.int64))
        self._came: Total = np.zeros(round_.size, np.int64)
        """The sum of d_k - y_k, with no y_k of who is not remembered."""
        self._added: Total = np.zeros(round_.size, np.int64)
        """To G."""
        self._answers = self._strangers = 0

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        client = named.client
        last = on_grid(change, self._bits)
        self._answers += 1
        self._came += last
        before = self._store.before(client)
        if before is None:
            self._strangers += 1
        else:
            self._came -= before
        if client in self._rounds and self._rounds[client] >= named.round:
            # A newer one of this client came before this late one.
            return
        now = self._store.now(client)
        self._added += last if now is None else last - now
        self._store.put(client, named.round, last.astype(np.int32))
        self._rounds[client] = named.round

    def finish(self, base: Array) -> Array:
        if not self._answers:
            return base
        # Of all that are remembered, or nothing.
        mean = self._scaled(self._before) / max(1, self._known)
        direction = mean + (self._scaled(self._came) - self._strangers * mean) / self._answers
        self._forget_some()
        self._memory["sum"] = self._before + self._added
        self._memory.update(counted.written(self._rounds, self._bits))
        self._store.force()
        return (base + self._settings.rate * direction).astype(np.float32)

    def _forget_some(self) -> None:
        surplus = len(self._rounds) - self._settings.clients_max
        oldest = sorted(self._rounds, key=lambda client: (self._rounds[client], client))
        for client in oldest[: max(0, surplus)]:
            part = self._store.now(client)
            assert part is not None
            self._added -= part
            del self._rounds[client]

    def _scaled(self, total: Total) -> NDArray[np.float64]:
        return np.ldexp(total.astype(np.float64), -self._bits)


def build(settings: Settings, round_: Round) -> FedVARP:
    assert round_.store is not None
    return FedVARP(settings, round_, round_.store)

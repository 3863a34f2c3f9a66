"""MIFA: clients that are seldom online count as much as others, by what they last gave.

    w_next = w + rate * G / N        G: the sum of each client's newest change, N: of how many

Each client remembers what was counted of it and sends by how much its new change differs from that;
the coordinator adds it to G, the one thing it keeps for all clients together. A codec's error is
part of the next difference, so it does not last.

G is exact: both sides add up whole multiples of 2^-f, below 2^31 each, so that 2^32 clients fit,
and what a client remembers is to the last bit what G holds of it. Clients have the same weight, as
in the paper; there, the first round waits for all, and here N grows as they come.

Who left for good is taken out of G after `expire_rounds`. For that its part lies on the disk too,
which also lets a client that has lost its memory begin anew without counting twice, and bounds what
a hostile one can pile up, round by round, to twice the largest change.

Source: Gu et al., "Fast Federated Learning in the Presence of Arbitrary Device Unavailability",
NeurIPS 2021, algorithm 1 (section 4: its efficient implementation by differences).
"""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from coordinator import counted
from coordinator.aggregation import Round
from coordinator.client_parts import ClientParts
from coordinator.rounds import Named
from fedmqtt.fixed_point import REMEMBERED_MAX, Total, on_grid
from fedmqtt.messages import Method, Update
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[
        float, Meta(gt=0, le=10, description="How far to move along the mean; 1 is averaging.")
    ] = 1.0
    expire_rounds: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="A client that has not answered for so many rounds counts no more; 0:\n"
            "it counts for ever, and nothing of each client is kept on the disk.",
        ),
    ] = 200


def method(settings: Settings) -> Method:
    return Method(difference=True)


def stores(settings: Settings) -> bool:
    return settings.expire_rounds > 0


class Mifa:
    """One running sum, of each client the round that was counted last, and on disk its part."""

    def __init__(self, settings: Settings, round_: Round) -> None:
        self._settings = settings
        self._round = round_
        self._memory = round_.memory
        self._bits = round_.remembered_bits
        self._rounds = counted.read(round_.memory)
        self._added: Total = np.zeros(round_.size, np.int64)
        self._came: set[ClientId] = set()
        self._parts = ClientParts(
            round_.memory, self._rounds, round_.store, round_.size, round_.number
        )

    def judge(self, client: ClientId, update: Update, change: Array) -> str:
        part = self._parts.of(client)
        if part is None:
            return ""
        if update.whole and (old := self._parts.replaced(client, update.since)) is not None:
            part -= old
        total = part + on_grid(change, self._bits)
        if np.abs(total).max(initial=0) < REMEMBERED_MAX:
            return ""
        return "adds up, with what was counted before, to more than twice limits.change_max"

    def hear(self, named: Named, update: Update) -> None:
        if update.whole:
            self._added -= self._parts.begin_anew(named.client, update.since)

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        difference = on_grid(change, self._bits)
        self._added += difference
        self._parts.add(named.client, difference)
        before = self._rounds.get(named.client, named.round)
        self._rounds[named.client] = max(before, named.round)
        self._came.add(named.client)

    def absorb(self) -> None:
        if not self._came:
            return
        self._expire()
        before = self._memory.get("sum", np.zeros(1, np.int64))
        self._memory.update(
            {
                "sum": before + self._added,
                **counted.written(self._rounds, self._bits),
                **self._parts.written(self._rounds, self._round.is_awaited),
            }
        )

    def finish(self, base: Array) -> Array:
        if not self._came:
            return base
        self.absorb()
        mean = np.ldexp(self._memory["sum"].astype(np.float64), -self._bits) / len(self._rounds)
        return (base + self._settings.rate * mean).astype(np.float32)

    def _expire(self) -> None:
        if not self._settings.expire_rounds:
            return
        oldest = self._round.number - self._settings.expire_rounds
        for client in sorted(self._rounds):
            is_expected = client in self._came or self._round.is_awaited(client)
            if self._rounds[client] >= oldest or is_expected:
                continue
            # Without its part it cannot be taken out: it came before parts were kept.
            if (part := self._parts.of(client)) is not None:
                self._added -= part
                del self._rounds[client]


def build(settings: Settings, round_: Round) -> Mifa:
    return Mifa(settings, round_)

"""The sum of what each client gave last, by differences: MIFA moves by it, SCAFFOLD corrects by it.

Each client remembers what was counted of it and sends by how much its newest differs from that; the
coordinator adds it to G, the one thing it keeps for all clients together. G is exact: both sides
add up whole multiples of 2^-f, below 2^31 each, so that 2^32 clients fit, and what a client
remembers is to the last bit what G holds of it.

Who left for good is taken out of G after `expire_rounds`. For that its part lies on the disk too,
which also lets a client that has lost its memory begin anew without counting twice, and bounds what
a hostile one can pile up, round by round, to twice the largest change.
"""

import numpy as np
from numpy.typing import NDArray

from coordinator.aggregation import Memory, Round
from coordinator.rounds import Named
from coordinator.sums import counted
from coordinator.sums.client_parts import ClientParts
from fedmqtt.fixed_point import REMEMBERED_MAX, Total, on_grid
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array

_SUM = "sum"


class NewestSum:
    """One running sum, of each client the round that was counted last, and on disk its part."""

    def __init__(self, round_: Round, expire_rounds: int) -> None:
        self._expire_rounds = expire_rounds
        self._round = round_
        self._memory = round_.memory
        self._bits = round_.remembered_bits
        self._rounds = counted.read(round_.memory)
        self._added: Total = np.zeros(round_.size, np.int64)
        self.came: set[ClientId] = set()
        """Whose differences were added in this round."""
        self._parts = ClientParts(
            round_.memory, self._rounds, round_.store, round_.size, round_.number
        )

    def judge(self, client: ClientId, update: Update, difference: Array) -> str:
        """What is wrong with it; nothing if it may be added."""
        part = self._parts.of(client)
        if part is None:
            return ""
        if update.whole and (old := self._parts.replaced(client, update.since)) is not None:
            part -= old
        total = part + on_grid(difference, self._bits)
        if np.abs(total).max(initial=0) < REMEMBERED_MAX:
            return ""
        return "adds up, with what was counted before, to more than twice limits.change_max"

    def hear(self, named: Named, update: Update) -> None:
        """Before `add`: who sends all anew counts no more with what it gave before."""
        if update.whole:
            self._added -= self._parts.begin_anew(named.client, update.since)

    def add(self, change: Array, named: Named) -> None:
        """How a client's newest, shape (size,), differs from what was counted of it."""
        difference = on_grid(change, self._bits)
        self._added += difference
        self._parts.add(named.client, difference)
        before = self._rounds.get(named.client, named.round)
        self._rounds[named.client] = max(before, named.round)
        self.came.add(named.client)

    def absorb(self) -> None:
        """Put into memory what was added."""
        if not self.came:
            return
        self._expire()
        before = self._memory.get(_SUM, np.zeros(1, np.int64))
        self._memory.update(
            {
                _SUM: before + self._added,
                **counted.written(self._rounds, self._bits),
                **self._parts.written(self._rounds, self._round.is_awaited),
            }
        )

    def _expire(self) -> None:
        if not self._expire_rounds:
            return
        oldest = self._round.number - self._expire_rounds
        for client in sorted(self._rounds):
            is_expected = client in self.came or self._round.is_awaited(client)
            if self._rounds[client] >= oldest or is_expected:
                continue
            # Without its part it cannot be taken out: it came before parts were kept.
            if (part := self._parts.of(client)) is not None:
                self._added -= part
                del self._rounds[client]


def mean(memory: Memory, clients_min: int = 0) -> NDArray[np.float64] | None:
    """G over the count of its clients, or over `clients_min` where those are more, shape (size,);
    None where nothing was ever added."""
    if _SUM not in memory:
        return None
    count = max(len(counted.read(memory)), clients_min)
    total = np.ldexp(memory[_SUM].astype(np.float64), -counted.bits(memory))
    # All of them may have left.
    return total / max(count, 1)

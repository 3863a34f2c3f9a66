"""Of each client, the round whose answer was counted last: what a difference has to be one to.

    accepted ──take──▶ waits to be added up ──▶ is in the strategy's memory ──settle──▶ done with
                              └──▶ the round fails, or the answer does ──drop──▶ it never was

A client trains for one round after the other, and an answer is accepted only if the one before it
is the one it says. So a client's answers form a chain in the order of their rounds, and none is
left out or added twice, whatever is lost or repeated on the way.
"""

from collections.abc import Collection, Mapping

import numpy as np

from coordinator.aggregation import Memory
from coordinator.rounds import Named
from fedmqtt.topics import ClientId, RoundId

_NONE = RoundId(0)
_NAMES, _ROUNDS, _BITS = "clients", "rounds", "fraction_bits"


class Counted:
    def __init__(self, settled: Mapping[ClientId, RoundId]) -> None:
        """`settled`: as the strategy remembers."""
        self._settled = dict(settled)
        self._waiting: dict[ClientId, set[RoundId]] = {}

    def last(self, client: ClientId) -> RoundId:
        """0: none."""
        # A late answer may wait for its place while a newer one is in the memory already.
        waiting = self._waiting.get(client, set())
        return max(waiting | {self._settled.get(client, _NONE)})

    def is_taken(self, named: Named) -> bool:
        """Whether it was accepted, and is not in the memory yet."""
        return named.round in self._waiting.get(named.client, ())

    def has_waiting(self, client: ClientId, but: Collection[Named] = ()) -> bool:
        """Whether an answer of it was accepted, other than these, that is not in the memory yet."""
        return any(Named(client, number) not in but for number in self._waiting.get(client, ()))

    def take(self, named: Named) -> None:
        """It was accepted."""
        self._waiting.setdefault(named.client, set()).add(named.round)

    def drop(self, named: Named) -> None:
        """It will not be added up any more; or it has been, as `settle` tells."""
        waiting = self._waiting.get(named.client, set())
        waiting.discard(named.round)
        if not waiting:
            self._waiting.pop(named.client, None)

    def settle(self, settled: Mapping[ClientId, RoundId]) -> None:
        """What the strategy remembers from now on."""
        self._settled = dict(settled)


def read(memory: Memory) -> dict[ClientId, RoundId]:
    """Whose answers are in a strategy's memory, and up to which round."""
    if _NAMES not in memory:
        return {}
    names = memory[_NAMES].tobytes().decode().split("\n")
    # No name holds a line break: `topics.py` says what is in one.
    rounds = [RoundId(number) for number in memory[_ROUNDS].tolist()]
    return dict(zip(map(ClientId, names), rounds, strict=True))


def written(settled: Mapping[ClientId, RoundId], bits: int) -> Memory:
    """As arrays, to be remembered; in the order of names. There must be one.

    `bits`: of fraction, in all that is remembered of them.
    """
    names = sorted(settled)
    return {
        _NAMES: np.frombuffer("\n".join(names).encode(), np.uint8),
        _ROUNDS: np.array([settled[name] for name in names], np.int64),
        _BITS: np.array([bits], np.int64),
    }


def fits(memory: Memory, bits: int) -> bool:
    """Whether what is remembered, if it is of this kind, has so many bits of fraction."""
    return _BITS not in memory or int(memory[_BITS][0]) == bits


def bits(memory: Memory) -> int:
    """Of fraction, as `written` was told."""
    return int(memory[_BITS][0])

"""What a sum over all clients holds of each, so that it can be taken out again.

    part of a client  =  what all that was folded of it came to, since it last began anew

A client that has lost its memory begins anew: it sends its change whole, which takes the place of
what was counted of it until then, and goes on with differences to that. Answers are accepted in the
order in which the client made them, but folded in any: those that came in time at once, late ones
when a later round closes. So what a whole change replaces may have been added to already, and what
was added stays. Therefore the part as it was before is kept on the disk too, for as long as an
answer of the client waits.

The round in which a part was written names it: no two of one client are written in the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from coordinator.aggregation import Memory
from coordinator.sums.client_store import ClientStore
from fedmqtt.fixed_point import Total
from fedmqtt.topics import ClientId, RoundId

_PARTS = "parts"
_NOWHERE = RoundId(0)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a client's part lies: in which rounds it was written."""

    now: RoundId = _NOWHERE
    """`_NOWHERE`: it is not known, as some of it was folded while no parts were kept."""
    earlier: RoundId = _NOWHERE
    """As it was before what was folded ahead of an answer that waits; `_NOWHERE`: there is none."""
    counted: RoundId = _NOWHERE
    """The last answer in the earlier one."""


class ClientParts:
    """During one round. All parts are int64, shape (size,), in the sum's own units."""

    def __init__(
        self,
        memory: Memory,
        counted: Mapping[ClientId, RoundId],
        store: ClientStore | None,
        size: int,
        number: RoundId,
    ) -> None:
        """`counted`: of each client in the sum, its answer that was counted last, when the round
        `number` opens. Without a store nothing is known of anybody. Raises StoreDamaged."""
        self._counted = dict(counted)
        self._places = _read(memory, self._counted)
        self._store = store
        self._size = size
        self._number = number
        self._unknown = {client for client, place in self._places.items() if not place.now}
        self._changed: set[ClientId] = set()
        if store is not None:
            store.begin(
                {client: place.now for client, place in self._places.items() if place.now},
                {client: place.earlier for client, place in self._places.items() if place.earlier},
            )

    def of(self, client: ClientId) -> Total | None:
        """With what was folded in this round; None where it is not known."""
        if self._store is None or client in self._unknown:
            return None
        return self._now(self._store, client)

    def replaced(self, client: ClientId, since: RoundId) -> Total | None:
        """What a whole change takes the place of, if it was made when the client's answer to round
        `since` was the last that counted, 0 for none; None where that is not known."""
        if self._store is None:
            return None
        if not since:
            return np.zeros(self._size, np.int64)
        place = self._places.get(client, _Place())
        if self._counted.get(client) == since and place.now:
            part = self._store.before(client)
        elif place.earlier and place.counted == since:
            part = self._store.earlier(client)
        else:
            return None
        assert part is not None, "begin() has looked"
        return part.astype(np.int64)

    def begin_anew(self, client: ClientId, since: RoundId) -> Total:
        """By a whole change, which is to be added yet: what is taken out of the sum for it."""
        replaced = self.replaced(client, since)
        if replaced is not None:
            self.add(client, -replaced)
            return replaced
        if self._counted.get(client) == since:
            # What was there stays there for ever; all that came since is known.
            self._unknown.discard(client)
        return np.zeros(self._size, np.int64)

    def add(self, client: ClientId, values: Total) -> None:
        self._changed.add(client)
        if self._store is not None:
            assert self._number != _NOWHERE, "only rounds with a number have parts"
            # On the way a part may wrap around: in the end it fits, in whatever order.
            part = self._now(self._store, client) + values
            self._store.put(client, self._number, part.astype(np.int32))

    def written(
        self, counted: Mapping[ClientId, RoundId], is_awaited: Callable[[ClientId], bool]
    ) -> Memory:
        """To be remembered of those that are in the sum when the round has closed. When this
        returns, a loss of power would not lose their parts."""
        if self._store is not None:
            self._store.force()
        places = [self._place(name, is_awaited) for name in sorted(counted)]
        rows = [(place.now, place.earlier, place.counted) for place in places]
        return {_PARTS: np.array(rows, np.int64)}

    def _now(self, store: ClientStore, client: ClientId) -> Total:
        """Of who is not known, what was folded in this round."""
        part = store.now(client)
        return np.zeros(self._size, np.int64) if part is None else part.astype(np.int64)

    def _place(self, client: ClientId, is_awaited: Callable[[ClientId], bool]) -> _Place:
        before = self._places.get(client, _Place())
        if self._store is None and client in self._changed:
            return _Place()
        now, earlier = before.now, (before.earlier, before.counted)
        if client in self._changed:
            now = _NOWHERE if client in self._unknown else self._number
        if not is_awaited(client):
            earlier = _NOWHERE, _NOWHERE
        elif now != before.now and before.now and not before.earlier:
            earlier = before.now, self._counted[client]
        return _Place(now, *earlier)


def _read(memory: Memory, counted: Mapping[ClientId, RoundId]) -> dict[ClientId, _Place]:
    if _PARTS not in memory:
        return {client: _Place() for client in counted}
    rows = ((RoundId(one) for one in row) for row in memory[_PARTS].tolist())
    return {client: _Place(*row) for client, row in zip(sorted(counted), rows, strict=True)}

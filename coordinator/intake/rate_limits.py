"""How much each client may send: a token bucket for each, kept as one number. Pure.

A bucket that holds `burst` tokens and fills at `per_s` is known by the moment at which it will be
full again: taking tokens moves that moment on, and time comes nearer to it.

        full_at - now = 0: full, and nothing needs to be kept
        full_at - now = burst / per_s: empty

Source: the generic cell rate algorithm (virtual scheduling), ITU-T recommendation I.371.
"""

from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId

CLIENTS_MAX = 100_000
"""Of more clients that have sent something lately, those that were silent for longest begin with a
full bucket: so many take 12 MB. A broker with accounts does not let one client be so many."""

_ROUNDING_S: Seconds = 1e-6
"""A clock that has run for days has no more digits: a bucket of one token, full, must give it."""


class Buckets:
    """One for each client, full to begin with."""

    def __init__(self, per_s: float, burst: float, clients_max: int = CLIENTS_MAX) -> None:
        self._clients_max = clients_max
        self._full_at: dict[ClientId, Seconds] = {}
        """Who took something last is last."""
        self.resize(per_s, burst)

    def __len__(self) -> int:
        """How many clients something is kept of."""
        return len(self._full_at)

    def resize(self, per_s: float, burst: float) -> None:
        """From now on; what has been taken stays taken."""
        assert per_s > 0 and burst > 0
        self._per_s = per_s
        self._empties_s = burst / per_s

    def take(self, at: Seconds, client: ClientId, tokens: float = 1.0) -> bool:
        """Whether there were as many. Where there were not, none is taken."""
        full_at = max(at, self._full_at.get(client, at)) + tokens / self._per_s
        if full_at - at > self._empties_s + _ROUNDING_S:
            return False
        self._full_at.pop(client, None)
        self._full_at[client] = full_at
        self._forget_full(at)
        return True

    def give_back(self, client: ClientId, tokens: float) -> None:
        """What was taken for nothing that it should be charged for."""
        if client in self._full_at:
            self._full_at[client] -= tokens / self._per_s

    def _forget_full(self, at: Seconds) -> None:
        # Two for each that may have come, so that what is kept follows what is of use.
        for client in [client for client, _ in zip(self._full_at, range(2), strict=False)]:
            if self._full_at[client] <= at or len(self._full_at) > self._clients_max:
                del self._full_at[client]

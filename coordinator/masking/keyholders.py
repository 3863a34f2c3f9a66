"""The keyholders of a federation: which are there, and by which keys the next round is masked.

A keyholder publishes keys ahead, each signed by its own key, which the coordinator's credentials
name as devices' do: one that devices do not know would have no answers. Each key is for one round,
or, where rounds are asynchronous, for some in a row.
Pure: the service tells what comes, and asks what there is.
"""

from collections.abc import Mapping, Sequence

from fedmqtt import signing
from fedmqtt.masking import seeds
from fedmqtt.messages import Keyholder, Presence, RoundKey
from fedmqtt.topics import ClientId


class Keyholders:
    """Those that have a place, and what each has said of itself."""

    def __init__(
        self,
        federation: str,
        pinned: Sequence[tuple[ClientId, str]],
        places: int,
        tolerated: int,
        used: Mapping[ClientId, int],
        *,
        answers_max: int,
        for_several: bool = False,
    ) -> None:
        """`used`: the number of each one's newest key that a round was opened with; `answers_max`:
        of how many answers a sum is at the most; `for_several`: whether a key is for several lists,
        and no more keyholders are named than need be."""
        self._for_several = for_several
        self._answers_max = answers_max
        self._federation = federation
        self._keys = dict(pinned[:places])
        self._place = {name: place for place, name in enumerate(self._keys)}
        self._shape = places, tolerated
        self._used = dict(used)
        self._sessions: dict[ClientId, str] = {}
        """Of those that are there."""
        self._unused: dict[ClientId, tuple[RoundKey, ...]] = {}
        self._floors: dict[ClientId, int] = {}

    def place(self, name: ClientId) -> int | None:
        return self._place.get(name)

    def is_there(self, name: ClientId, session: str | None = None) -> bool:
        """Over this connection, where one is named."""
        return name in self._sessions and session in (None, self._sessions[name])

    def came(self, name: ClientId, presence: Presence) -> str:
        """It says that it is there, and its keys. What is wrong with them, if anything: those that
        it did not sign are not taken."""
        self._sessions[name] = presence.session
        self._floors[name] = presence.floor
        good = tuple(
            key
            for key in presence.keys
            if signing.is_round_key(self._keys[name], self._federation, name, key)
        )
        self._unused[name] = good
        if len(good) < len(presence.keys):
            return f"publishes round keys that it has not signed: {len(presence.keys) - len(good)}"
        return ""

    def left(self, name: ClientId, session: str) -> bool:
        """Its connection of this session ended. False if it has a newer one already."""
        if self._sessions.get(name) != session:
            return False
        del self._sessions[name]
        return True

    def next(self) -> tuple[Keyholder, ...] | None:
        """Those that are there, each with a key that no round has had; None where they do not hold
        all seeds."""
        keys = {name: self._next_key(name) for name in self._place}
        found = tuple(
            Keyholder(name, place, key)
            for name, place in self._place.items()
            if (key := keys[name]) is not None
        )
        if self._for_several:
            _, tolerated = self._shape
            found = found[: tolerated + 1]
        there = [keyholder.place for keyholder in found]
        return None if seeds.assign(*self._shape, there) is None else found

    def use(self, keyholders: Sequence[Keyholder]) -> None:
        """A round has been opened with these keys."""
        for keyholder in keyholders:
            self._used[keyholder.name] = max(
                keyholder.key.number, self._used.get(keyholder.name, 0)
            )

    def told(self) -> dict[ClientId, str]:
        """Of each, for people: whether a round can be masked by a key of its."""
        return {name: self._told(name) for name in self._place}

    def waiting(self) -> str:
        """Which are waited for, in a sentence."""
        lacking = [
            f"{name} ({self._told(name)})" for name in self._place if not self._is_ready(name)
        ]
        _, tolerated = self._shape
        return (
            f"waiting for keyholders: {tolerated + 1} of {len(self._place)} are needed with a round"
            f" key; without one: {', '.join(lacking)}"
        )

    def _told(self, name: ClientId) -> str:
        if not self.is_there(name):
            return "away" if name in self._unused else "never seen"
        if self._opens_none(name):
            return (
                f"it opens no sum of fewer than {self._floors[name]} answers, and a round has"
                f" {self._answers_max} at most: start it with a lower --floor if that is right"
            )
        if not self._is_ready(name):
            return "no unused round key"
        return "ready"

    def _opens_none(self, name: ClientId) -> bool:
        return self._floors[name] > self._answers_max

    def _is_ready(self, name: ClientId) -> bool:
        return self._next_key(name) is not None

    def _next_key(self, name: ClientId) -> RoundKey | None:
        if not self.is_there(name) or self._opens_none(name):
            return None
        used = self._used.get(name, 0)
        fresh = [key for key in self._unused[name] if key.number > used]
        return min(fresh, key=lambda key: key.number, default=None)

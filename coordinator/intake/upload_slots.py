"""Large answers on their way: who may send now, and what is missing of each. Decides, and no more.

    Announce ──▶ waits for a slot ──Go──▶ chunks ... ──▶ whole
                    ▲                ▲        │
                    │                └──Go────┤ stands still: asked for what is missing
                    └─── parked ◀─────────────┘ does not react, or its turn is over

Brokers confirm messages that they then drop when our queue is full, so large answers come a few at
a time, and only when told to. Who has been sending for longer than a turn makes place for those who
wait: parked, it has no slot, but what came of it is kept and its chunks are still taken. So a few
slow clients stop nobody, and a client that comes back sends only what is missing.

Knows no clock, no link and no disk: time and messages come in, messages go out. `uploads.py` keeps
the bytes; a simulator needs none.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fedmqtt import chunks
from fedmqtt.effects import Publish, Seconds
from fedmqtt.messages import Announce, Chunk, Go
from fedmqtt.topics import ClientId, Inbox, RoundId

STALLS_MAX = 3
"""After being asked so often for the same missing chunks a client loses its slot."""

RANGES_MAX = 500
"""Gaps named in one Go, so that it fits a small packet; after those, the client is asked again."""

TURN_S = 10.0
"""How long an upload keeps others waiting: 6.6 MB at 5 Mbit/s."""

PARKED_MAX = 32
"""Parked uploads may all be moving. With 20 messages on the way each, the 1,000 messages that a
broker queues for us by default are not reached."""

PARKED_BYTES_MAX = 2**30


@dataclass(slots=True, eq=False)
class Arriving:
    """One client's answer, as far as it has come. Memory holds one byte per chunk."""

    number: int
    """Of all that were ever begun: a name that came from no peer."""
    client: ClientId
    announce: Announce
    missing: chunks.Missing
    turn_began_at: Seconds
    moved_at: Seconds
    """When a chunk arrived last, or was asked for."""
    stalls: int = 0
    is_sending: bool = False
    """It was told to, and nothing says that it has stopped."""

    @property
    def is_whole(self) -> bool:
        return self.missing.left == 0

    @property
    def is_empty(self) -> bool:
        return self.missing.left == len(self.missing.arrived)


def _nothing_is_kept(arriving: Arriving) -> None:
    pass


@dataclass(slots=True)
class UploadSlots:
    """All uploads of one coordinator. One per client, the newest."""

    at_once: int
    stall_s: Seconds
    turn_s: Seconds = TURN_S
    parked_max: int = PARKED_MAX
    parked_bytes_max: int = PARKED_BYTES_MAX
    """Counts what was announced, not what has arrived of it."""
    discarded: Callable[[Arriving], None] = _nothing_is_kept
    """Called when what came of an upload is of no use any more."""
    _waiting: dict[ClientId, Announce] = field(default_factory=dict)
    """In the order in which they get a slot. Some of them are parked."""
    _active: dict[ClientId, Arriving] = field(default_factory=dict)
    """Have a slot; who has had it for longest is first."""
    _parked: dict[ClientId, Arriving] = field(default_factory=dict)
    """Whose chunks came longest ago is first."""
    _begun: int = 0

    def announce(self, at: Seconds, client: ClientId, announce: Announce) -> list[Publish]:
        """A client has an answer to send. Go now, or later when a slot is free."""
        upload = self._of(client)
        if upload is not None and upload.announce != announce:
            if announce.round < upload.announce.round and not self._stands_still(at, upload):
                # Who owes several announces each, and then each again: they must not take turns in
                # beginning anew. The newest goes first, and this one will be announced again.
                return []
            self.discard(upload)
        elif upload is not None:
            # It lost its link, or our Go was lost: what is here is kept.
            upload.is_sending = False
            if client in self._active:
                return [_go(upload, at)]
        self._waiting[client] = announce
        return self.fill(at)

    def take(self, at: Seconds, client: ClientId, index: int, chunk: Chunk) -> Arriving | None:
        """A chunk arrived: the upload that it is new to. One that is whole now has left its slot;
        the next may send when the caller says so, by `fill`."""
        upload = self._of(client)
        if upload is None or chunk.digest != upload.announce.digest:
            return None
        if not upload.missing.take(index, len(chunk.data)):
            return None
        upload.is_sending, upload.moved_at, upload.stalls = True, at, 0
        if client in self._parked:
            self._parked[client] = self._parked.pop(client)
        if upload.is_whole:
            self._release(upload)
        return upload

    def fill(self, at: Seconds) -> list[Publish]:
        """Give what slots are free to those who wait."""
        gone: list[Publish] = []
        while self._waiting and (len(self._active) < self.at_once or self._gives_way(at)):
            client = next(iter(self._waiting))
            announce = self._waiting.pop(client)
            upload = self._parked.pop(client, None) or self._begin(at, client, announce)
            upload.turn_began_at, upload.stalls = at, 0
            self._active[client] = upload
            # Who gave way is sending all the while, and need not send those chunks twice.
            if self._stands_still(at, upload):
                gone.append(_go(upload, at))
        return gone

    def discard(self, upload: Arriving) -> None:
        """Forget it: it begins anew when it is announced again."""
        self._release(upload)
        self.discarded(upload)

    def drop(self, at: Seconds, is_wanted: Callable[[ClientId, RoundId], bool]) -> list[Publish]:
        """Forget uploads whose answer would no longer count, as when their round has closed."""
        for client, announce in list(self._waiting.items()):
            if not is_wanted(client, announce.round):
                del self._waiting[client]
        for upload in [*self._active.values(), *self._parked.values()]:
            if not is_wanted(upload.client, upload.announce.round):
                self.discard(upload)
        return self.fill(at)

    def tick(self, at: Seconds) -> list[Publish]:
        """Ask again where nothing moved; give up, for now, on who does not react."""
        stalled = [one for one in self._active.values() if self._stands_still(at, one)]
        for upload in stalled:
            upload.stalls += 1
            if upload.stalls > STALLS_MAX:
                self._abandon(at, upload)
        gone = self.fill(at)
        return gone + [_go(one, at) for one in stalled if one.client in self._active]

    @property
    def active(self) -> tuple[ClientId, ...]:
        """Who has a slot: at most `at_once`."""
        return tuple(self._active)

    @property
    def parked(self) -> tuple[ClientId, ...]:
        """Whose unfinished answer is kept without a slot: at most `parked_max`."""
        return tuple(self._parked)

    @property
    def wake_in_s(self) -> Seconds | None:
        """How soon `tick` is due, at the latest."""
        return min(self.stall_s, self.turn_s) if self._active else None

    def _gives_way(self, at: Seconds) -> bool:
        """Whether an upload has had its turn, and has left its slot to the first who waits."""
        first = next(iter(self._waiting))
        upload = next(iter(self._active.values()))
        if at - upload.turn_began_at < self.turn_s or not self._makes_room(at, upload, first):
            return False
        self._park(upload)
        self._waiting[upload.client] = upload.announce
        return True

    def _abandon(self, at: Seconds, upload: Arriving) -> None:
        # It announces again when it is back. Others must not wait for it.
        if not upload.is_empty and self._makes_room(at, upload):
            self._park(upload)
        else:
            self.discard(upload)

    def _makes_room(self, at: Seconds, upload: Arriving, leaving: ClientId | None = None) -> bool:
        """Whether one more may be parked, now that `leaving` no longer is.

        For it those are dropped, oldest first, that stand still and of whose clients nothing was
        heard since.
        """
        parked = [one for one in self._parked.values() if one.client != leaving]
        given_up = deque(
            one for one in parked if self._stands_still(at, one) and one.client not in self._waiting
        )
        count, size = len(parked) + 1, sum(one.announce.size_bytes for one in [*parked, upload])
        dropped: list[Arriving] = []
        while count > self.parked_max or size > self.parked_bytes_max:
            if not given_up:
                return False
            dropped.append(given_up.popleft())
            count, size = count - 1, size - dropped[-1].announce.size_bytes
        for one in dropped:
            self.discard(one)
        return True

    def _stands_still(self, at: Seconds, upload: Arriving) -> bool:
        return not upload.is_sending or at - upload.moved_at >= self.stall_s

    def _begin(self, at: Seconds, client: ClientId, announce: Announce) -> Arriving:
        self._begun += 1
        missing = chunks.Missing(announce.size_bytes, announce.chunk_bytes)
        return Arriving(self._begun, client, announce, missing, turn_began_at=at, moved_at=at)

    def _of(self, client: ClientId) -> Arriving | None:
        return self._active.get(client) or self._parked.get(client)

    def _park(self, upload: Arriving) -> None:
        del self._active[upload.client]
        self._parked[upload.client] = upload

    def _release(self, upload: Arriving) -> None:
        for place in (self._waiting, self._active, self._parked):
            place.pop(upload.client, None)


def _go(upload: Arriving, at: Seconds) -> Publish:
    upload.is_sending, upload.moved_at = True, at
    announce, ranges = upload.announce, upload.missing.ranges()[:RANGES_MAX]
    go = Go(run=announce.run, round=announce.round, digest=announce.digest, ranges=ranges)
    return Publish(Inbox(upload.client), go)

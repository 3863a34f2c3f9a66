"""Answers on their way: who may send now, which chunks are missing, when one is whole.

    Announce ──▶ waits for a slot ──Go──▶ chunks ... ──▶ whole, SHA-256 checked, the caller's
                    ▲                ▲        │
                    │                └──Go────┤ stands still: asked for what is missing
                    └─── parked ◀─────────────┘ does not react, or its turn is over

Brokers confirm messages that they then drop when our queue is full, so large answers come a few at
a time, and only when told to. Who has been sending for longer than a turn makes place for those who
wait: parked, it has no slot, but its file is kept and its chunks are still taken. So a few slow
clients stop nobody, and a client that comes back sends only what is missing.

Each is assembled in a file of its own; memory holds one byte per chunk, and disk the slots and a
bounded number of parked ones, however many clients there are. Knows no clock and no link: time and
messages come in, messages go out. What the disk refuses is raised as OSError.
"""

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedmqtt import chunks, weights
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

_SUFFIX = ".upload"


@dataclass(slots=True, eq=False)
class Upload:
    """One client's answer. Its file appears with the first chunk, and grows where chunks arrive."""

    client: ClientId
    announce: Announce
    path: Path
    missing: chunks.Missing
    turn_began_at: Seconds
    moved_at: Seconds
    """When a chunk arrived last, or was asked for."""
    stalls: int = 0
    is_sending: bool = False
    """It was told to, and nothing says that it has stopped."""

    @property
    def is_empty(self) -> bool:
        return self.missing.left == len(self.missing.arrived)

    @contextmanager
    def opened(self) -> Iterator[memoryview]:
        """The bytes of a whole upload, read-only, while the block lasts.

        They are the file's pages and not a copy. Where a view of them is kept for longer, they stay
        until it goes, whatever becomes of the file's name. Raises OSError.
        """
        with self.path.open("rb") as file:
            # Measured with 6.6 MB, hashed once: 3.16 ms, and 3.32 ms where they are read into a
            # buffer that is used again. That one also could not be used while a view is kept.
            mapped = mmap.mmap(file.fileno(), self.announce.size_bytes, access=mmap.ACCESS_READ)
        view = memoryview(mapped)
        try:
            yield view
        finally:
            # The mapping goes with its last view. An exception that somebody keeps, as a log may,
            # must not be the one to hold it; an array that is made of it may.
            with suppress(BufferError):
                view.release()


@dataclass(slots=True)
class Uploads:
    """All uploads of one coordinator, in a folder of its own. One per client, the newest."""

    at_once: int
    stall_s: Seconds
    folder: Path
    turn_s: Seconds = TURN_S
    parked_max: int = PARKED_MAX
    parked_bytes_max: int = PARKED_BYTES_MAX
    """Counts what was announced, not what has arrived of it."""
    _waiting: dict[ClientId, Announce] = field(default_factory=dict)
    """In the order in which they get a slot. Some of them are parked."""
    _active: dict[ClientId, Upload] = field(default_factory=dict)
    """Have a slot; who has had it for longest is first."""
    _parked: dict[ClientId, Upload] = field(default_factory=dict)
    """Whose chunks came longest ago is first."""
    _begun: int = 0

    def __post_init__(self) -> None:
        """Raises OSError. What an earlier life of the program left is deleted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"*{_SUFFIX}"):
            leftover.unlink()

    def announce(self, at: Seconds, client: ClientId, announce: Announce) -> list[Publish]:
        """A client has an answer to send. Go now, or later when a slot is free."""
        upload = self._of(client)
        if upload is not None and upload.announce != announce:
            if announce.round < upload.announce.round and not self._stands_still(at, upload):
                # Who owes several announces each, and then each again: they must not take turns in
                # beginning anew. The newest goes first, and this one will be announced again.
                return []
            self._discard(upload)
        elif upload is not None:
            # It lost its link, or our Go was lost: what is here is kept.
            upload.is_sending = False
            if client in self._active:
                return [_go(upload, at)]
        self._waiting[client] = announce
        return self._fill(at)

    def chunk(self, at: Seconds, client: ClientId, index: int, chunk: Chunk) -> Upload | None:
        """A chunk arrived. The upload if it is whole now: its file is the caller's, until `done`.

        Raises OSError; the upload is then forgotten.
        """
        upload = self._of(client)
        if upload is None or chunk.digest != upload.announce.digest:
            return None
        if not upload.missing.take(index, len(chunk.data)):
            return None
        try:
            _write(upload, index, chunk.data)
        except OSError:
            # It is ticked off, and is not there.
            self._discard(upload)
            raise
        upload.is_sending, upload.moved_at, upload.stalls = True, at, 0
        if client in self._parked:
            self._parked[client] = self._parked.pop(client)
        if upload.missing.left > 0:
            return None
        self._release(upload)
        return upload

    def is_intact(self, upload: Upload) -> bool:
        """Whether the bytes are those that were announced."""
        with upload.opened() as data:
            return weights.digest(data) == upload.announce.digest

    def done(self, at: Seconds, upload: Upload) -> list[Publish]:
        """Its file, unless the caller has renamed it, is no longer needed. The next may send."""
        upload.path.unlink(missing_ok=True)
        return self._fill(at)

    def drop(self, at: Seconds, is_wanted: Callable[[ClientId, RoundId], bool]) -> list[Publish]:
        """Forget uploads whose answer would no longer count, as when their round has closed."""
        for client, announce in list(self._waiting.items()):
            if not is_wanted(client, announce.round):
                del self._waiting[client]
        for upload in [*self._active.values(), *self._parked.values()]:
            if not is_wanted(upload.client, upload.announce.round):
                self._discard(upload)
        return self._fill(at)

    def tick(self, at: Seconds) -> list[Publish]:
        """Ask again where nothing moved; give up, for now, on who does not react."""
        stalled = [one for one in self._active.values() if self._stands_still(at, one)]
        for upload in stalled:
            upload.stalls += 1
            if upload.stalls > STALLS_MAX:
                self._abandon(at, upload)
        gone = self._fill(at)
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

    def _fill(self, at: Seconds) -> list[Publish]:
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

    def _gives_way(self, at: Seconds) -> bool:
        """Whether an upload has had its turn, and has left its slot to the first who waits."""
        first = next(iter(self._waiting))
        upload = next(iter(self._active.values()))
        if at - upload.turn_began_at < self.turn_s or not self._makes_room(at, upload, first):
            return False
        self._park(upload)
        self._waiting[upload.client] = upload.announce
        return True

    def _abandon(self, at: Seconds, upload: Upload) -> None:
        # It announces again when it is back. Others must not wait for it.
        if not upload.is_empty and self._makes_room(at, upload):
            self._park(upload)
        else:
            self._discard(upload)

    def _makes_room(self, at: Seconds, upload: Upload, leaving: ClientId | None = None) -> bool:
        """Whether one more may be parked, now that `leaving` no longer is.

        For it those are dropped, oldest first, that stand still and of whose clients nothing was
        heard since.
        """
        parked = [one for one in self._parked.values() if one.client != leaving]
        given_up = deque(
            one for one in parked if self._stands_still(at, one) and one.client not in self._waiting
        )
        count, size = len(parked) + 1, sum(one.announce.size_bytes for one in [*parked, upload])
        dropped: list[Upload] = []
        while count > self.parked_max or size > self.parked_bytes_max:
            if not given_up:
                return False
            dropped.append(given_up.popleft())
            count, size = count - 1, size - dropped[-1].announce.size_bytes
        for one in dropped:
            self._discard(one)
        return True

    def _stands_still(self, at: Seconds, upload: Upload) -> bool:
        return not upload.is_sending or at - upload.moved_at >= self.stall_s

    def _begin(self, at: Seconds, client: ClientId, announce: Announce) -> Upload:
        self._begun += 1
        # No name that came from a peer is a file's.
        path = self.folder / f"{self._begun}{_SUFFIX}"
        missing = chunks.Missing(announce.size_bytes, announce.chunk_bytes)
        return Upload(client, announce, path, missing, turn_began_at=at, moved_at=at)

    def _of(self, client: ClientId) -> Upload | None:
        return self._active.get(client) or self._parked.get(client)

    def _park(self, upload: Upload) -> None:
        del self._active[upload.client]
        self._parked[upload.client] = upload

    def _discard(self, upload: Upload) -> None:
        self._release(upload)
        upload.path.unlink(missing_ok=True)

    def _release(self, upload: Upload) -> None:
        for place in (self._waiting, self._active, self._parked):
            place.pop(upload.client, None)


def _write(upload: Upload, index: int, data: memoryview) -> None:
    """Put a chunk that has just been ticked off in its place. Raises OSError."""
    start, _ = chunks.span(index, upload.announce.size_bytes, upload.announce.chunk_bytes)
    # Made once: a file that somebody took away must not come back with holes.
    is_first = upload.missing.left == len(upload.missing.arrived) - 1
    new = os.O_CREAT | os.O_EXCL if is_first else 0
    # Opened for each chunk, which costs 1.3 of 20 µs: there may be more uploads than a process may
    # have open files.
    descriptor = os.open(upload.path, os.O_WRONLY | new, 0o600)
    try:
        # A disk that is nearly full takes a part, and says why only when it is given the rest.
        while data:
            written = os.pwrite(descriptor, data, start)
            data, start = data[written:], start + written
    finally:
        os.close(descriptor)


def _go(upload: Upload, at: Seconds) -> Publish:
    upload.is_sending, upload.moved_at = True, at
    announce, ranges = upload.announce, upload.missing.ranges()[:RANGES_MAX]
    go = Go(run=announce.run, round=announce.round, digest=announce.digest, ranges=ranges)
    return Publish(Inbox(upload.client), go)

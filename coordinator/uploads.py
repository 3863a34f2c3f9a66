"""Answers on their way: who may send now, which chunks are missing, when one is whole.

    Announce ──▶ waits for a slot ──Go──▶ chunks ... ──▶ whole, SHA-256 checked
                                     ▲        │ stands still
                                     └──Go────┘ for what is missing

Brokers confirm messages that they then drop when our queue is full, so large answers come a few at
a time, and only when told to. Memory is bounded by the slots, not by the number of clients. Knows
no clock and no link: time and messages come in, messages go out.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fedmqtt import chunks, weights
from fedmqtt.effects import Publish, Seconds
from fedmqtt.messages import Announce, Chunk, Go
from fedmqtt.topics import ClientId, Inbox, RoundId

STALLS_MAX = 3
"""After being asked so often for the same missing chunks a client loses its slot."""

RANGES_MAX = 500
"""Gaps named in one Go, so that it fits a small packet; after those, the client is asked again."""

_GRAIN_BYTES = 64 * 1024
"""Buffers have multiples of this: answers of one model differ by a few bytes and can share them."""


@dataclass(slots=True)
class Upload:
    client: ClientId
    announce: Announce
    missing: chunks.Missing
    buffer: bytearray
    moved_at: Seconds
    stalls: int = 0

    @property
    def data(self) -> memoryview:
        """What has arrived, in its place. While a view of it lives, its memory is not reused."""
        return memoryview(self.buffer)[: self.announce.size_bytes]


@dataclass(slots=True)
class Uploads:
    at_once: int
    stall_s: Seconds
    _active: dict[ClientId, Upload] = field(default_factory=dict)
    _waiting: dict[ClientId, Announce] = field(default_factory=dict)
    _spare: deque[bytearray] = field(default_factory=deque)
    """Buffers of finished uploads: fresh memory costs more in page faults than it holds."""

    def announce(self, at: Seconds, client: ClientId, announce: Announce) -> list[Publish]:
        """A client has an answer to send. Go now, or later when a slot is free."""
        active = self._active.get(client)
        if active is not None and active.announce == announce:
            # It lost its link, or our Go was lost: what is here is kept.
            active.moved_at = at
            return [_go(active)]
        if active is not None:
            self._release(active)
        self._waiting[client] = announce
        return self._fill(at)

    def chunk(self, at: Seconds, client: ClientId, index: int, chunk: Chunk) -> Upload | None:
        """A chunk arrived. The upload if it is whole now; call `done` when its data was used."""
        upload = self._active.get(client)
        if upload is None or chunk.digest != upload.announce.digest:
            return None
        if not upload.missing.take(index, len(chunk.data)):
            return None
        start, stop = chunks.span(index, upload.announce.size_bytes, upload.announce.chunk_bytes)
        upload.data[start:stop] = chunk.data
        upload.moved_at, upload.stalls = at, 0
        return upload if upload.missing.left == 0 else None

    def is_intact(self, upload: Upload) -> bool:
        """Whether the bytes are those that were announced."""
        return weights.digest(upload.data) == upload.announce.digest

    def done(self, at: Seconds, upload: Upload) -> list[Publish]:
        """Its data is no longer needed: the next client may send."""
        self._release(upload)
        return self._fill(at)

    def drop(self, at: Seconds, is_wanted: Callable[[ClientId, RoundId], bool]) -> list[Publish]:
        """Forget uploads whose answer would no longer count, as when their round has closed."""
        for client, announce in list(self._waiting.items()):
            if not is_wanted(client, announce.round):
                del self._waiting[client]
        for upload in list(self._active.values()):
            if not is_wanted(upload.client, upload.announce.round):
                self._release(upload)
        return self._fill(at)

    def tick(self, at: Seconds) -> list[Publish]:
        """Ask again where nothing moved; give up, for now, on who does not react."""
        asked: list[Publish] = []
        for upload in list(self._active.values()):
            if at - upload.moved_at < self.stall_s:
                continue
            upload.stalls += 1
            upload.moved_at = at
            if upload.stalls > STALLS_MAX:
                # It announces again when it is back. Others must not wait for it.
                self._release(upload)
            else:
                asked.append(_go(upload))
        return asked + self._fill(at)

    @property
    def wake_in_s(self) -> Seconds | None:
        """How soon `tick` is due, at the latest."""
        return self.stall_s if self._active else None

    def _fill(self, at: Seconds) -> list[Publish]:
        gone: list[Publish] = []
        while self._waiting and len(self._active) < self.at_once:
            client = next(iter(self._waiting))
            announce = self._waiting.pop(client)
            missing = chunks.Missing(announce.size_bytes, announce.chunk_bytes)
            upload = Upload(client, announce, missing, self._buffer(announce.size_bytes), at)
            self._active[client] = upload
            gone.append(_go(upload))
        return gone

    def _buffer(self, size: int) -> bytearray:
        rounded = -(-size // _GRAIN_BYTES) * _GRAIN_BYTES
        for number, spare in enumerate(self._spare):
            if len(spare) == rounded:
                del self._spare[number]
                return spare
        return bytearray(rounded)

    def _release(self, upload: Upload) -> None:
        self._active.pop(upload.client, None)
        if _is_in_use(upload.buffer):
            return
        self._spare.append(upload.buffer)
        while len(self._spare) > self.at_once:
            self._spare.popleft()


def _is_in_use(buffer: bytearray) -> bool:
    """Whether a view of it lives, as in a strategy that keeps the changes of a round."""
    try:
        # What Python refuses while there are views; otherwise it moves nothing.
        buffer.append(buffer.pop())
    except BufferError:
        return True
    return False


def _go(upload: Upload) -> Publish:
    announce, ranges = upload.announce, upload.missing.ranges()[:RANGES_MAX]
    go = Go(round=announce.round, digest=announce.digest, ranges=ranges)
    return Publish(Inbox(upload.client), go)

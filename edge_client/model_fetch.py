"""Getting a model's file from the broker, chunk by chunk, straight to disk.

Every chunk is a retained message on a topic of its own, so subscribing to it is a GET that needs no
coordinator. A few chunks are asked for at a time: the device fetches at its own pace and the broker
never queues a whole model for a slow one. What has arrived is kept when the link breaks.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from edge_client.outbox import sha256_of
from fedmqtt import chunks
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.topics import Digest, ModelChunk

BATCH = 4
"""Chunks per SUBSCRIBE packet; two batches are on the way at a time."""
_BATCHES_AHEAD = 2


@dataclass(slots=True)
class _Fetch:
    model: ModelRef
    path: Path
    file: BinaryIO
    missing: chunks.Missing
    done: Callable[[str], None]
    batches: list[set[int]] = field(default_factory=list)
    """Chunk numbers asked for and not here, per SUBSCRIBE."""
    asked_below: int = 0


class ModelFetch:
    """Keeps the newest model only. `done` is called with "" or with what went wrong."""

    def __init__(self, link: MqttLink, folder: Path, size_max: int) -> None:
        self._link = link
        self._folder = folder
        self._size_max = size_max
        self._fetch: _Fetch | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        return self._folder / f"{digest}.model"

    def start(self, model: ModelRef, done: Callable[[str], None]) -> None:
        """Fetch a model, or go on with it after the link came back."""
        if self.path(model.digest).exists():
            done("")
            return
        if self._fetch is None or self._fetch.model.digest != model.digest:
            self.stop()
            fault = self._why_not(model)
            if fault:
                done(fault)
                return
            self._fetch = self._begin(model, done)
        self._fetch.batches = []
        self._fetch.asked_below = 0
        self._ask(self._fetch)

    def stop(self) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            self._link.unsubscribe(_addresses(fetch, set().union(*fetch.batches)))
            fetch.file.close()
            fetch.path.unlink(missing_ok=True)

    def take(self, address: ModelChunk, data: bytes) -> None:
        """One chunk arrived. Chunks nobody asked for are an old subscription: end it."""
        fetch = self._fetch
        if fetch is None or fetch.model.digest != address.digest:
            self._link.unsubscribe([address])
            return
        start, _ = chunks.span(address.index, fetch.model.size_bytes, fetch.model.chunk_bytes)
        if not fetch.missing.take(address.index, len(data)):
            return
        os.pwrite(fetch.file.fileno(), data, start)
        self._tick_off(fetch, address.index)
        if fetch.missing.left == 0:
            self._finish(fetch)
        else:
            self._ask(fetch)

    def _why_not(self, model: ModelRef) -> str:
        if model.size_bytes > self._size_max:
            return (
                f"the model has {model.size_bytes} bytes,"
                f" more than this client's model_bytes_max = {self._size_max}"
            )
        return ""

    def _begin(self, model: ModelRef, done: Callable[[str], None]) -> _Fetch:
        path = self._folder / f"{model.digest}.part"
        missing = chunks.Missing(model.size_bytes, model.chunk_bytes)
        return _Fetch(model, path, path.open("wb"), missing, done)

    def _ask(self, fetch: _Fetch) -> None:
        while len(fetch.batches) < _BATCHES_AHEAD:
            batch: set[int] = set()
            while fetch.asked_below < len(fetch.missing.arrived) and len(batch) < BATCH:
                if not fetch.missing.arrived[fetch.asked_below]:
                    batch.add(fetch.asked_below)
                fetch.asked_below += 1
            if not batch:
                return
            fetch.batches.append(batch)
            self._link.subscribe(_addresses(fetch, batch))

    def _tick_off(self, fetch: _Fetch, index: int) -> None:
        for batch in fetch.batches:
            batch.discard(index)
        fetch.batches = [batch for batch in fetch.batches if batch]
        self._link.unsubscribe([ModelChunk(fetch.model.digest, index)])

    def _finish(self, fetch: _Fetch) -> None:
        self._fetch = None
        fetch.file.close()
        if sha256_of(fetch.path) != fetch.model.digest:
            fetch.path.unlink()
            fetch.done("the model arrived damaged: its SHA-256 is not the offered one")
            return
        for older in self._folder.glob("*.model"):
            older.unlink()
        fetch.path.replace(self.path(fetch.model.digest))
        fetch.done("")


def _addresses(fetch: _Fetch, indices: set[int]) -> list[ModelChunk]:
    return [ModelChunk(fetch.model.digest, index) for index in sorted(indices)]

"""Getting a model's file from the broker, or a delta's, chunk by chunk, straight to disk.

Every chunk is a retained message on a topic of its own, so subscribing to it is a GET that needs no
coordinator. A few chunks are asked for at a time: the device fetches at its own pace and the broker
never queues a whole model for a slow one. What has arrived is kept when the link breaks or a round
ends, so a slow device gets a large model in the end.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from edge_client.outbox import files, sha256_of, sweep
from fedmqtt import chunks
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.topics import Digest, ModelChunk

MODEL = ".model"
DELTA = ".delta"
"""How the names of files end: a model's, and those of what makes it of another one."""

BATCH = 4
"""Chunks per SUBSCRIBE packet; two batches are on the way at a time."""
_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class _Batch:
    """Chunks asked for in one SUBSCRIBE; given up in one UNSUBSCRIBE when all are here."""

    asked: tuple[int, ...]
    missing: set[int]


@dataclass(slots=True)
class _Fetch:
    model: ModelRef
    path: Path
    file: FileIO
    missing: chunks.Missing
    done: Callable[[str], None]
    ending: str
    is_wanted: bool = True
    batches: list[_Batch] = field(default_factory=list)
    asked_below: int = 0


class ModelFetch:
    """Keeps the newest model only. `done` is called with "" or with what went wrong.

    Raises OSError where there can be no such folder, or where it cannot be read.
    """

    def __init__(self, link: MqttLink, folder: Path, size_max: int) -> None:
        self._link = link
        self._folder = folder
        self._size_max = size_max
        self._fetch: _Fetch | None = None
        self._whole: set[Digest] = set()
        """Seen to be whole in this life. A file of an earlier one may have lost its power."""
        folder.mkdir(parents=True, exist_ok=True)
        self.stuck = sweep(folder)
        """What an earlier life left half fetched and could not be removed, and why."""

    @property
    def fetched_bytes(self) -> int:
        """Of what is being fetched, if anything is."""
        fetch = self._fetch
        if fetch is None or not fetch.is_wanted:
            return 0
        left = fetch.missing.left * fetch.model.chunk_bytes
        return max(0, fetch.model.size_bytes - left)

    def path(self, digest: Digest, ending: str = MODEL) -> Path:
        return self._folder / f"{digest}{ending}"

    def held(self) -> list[Digest]:
        """Of the models that lie here, whole or not. Raises OSError."""
        return [Digest(path.name.removesuffix(MODEL)) for path in files(self._folder, MODEL)]

    def has(self, digest: Digest) -> bool:
        """Whether this model is here, whole. Raises OSError."""
        return self._is_here(digest, MODEL)

    def start(self, model: ModelRef, done: Callable[[str], None], ending: str = MODEL) -> None:
        """Fetch a model, or go on with it after the link came back or the round was another."""
        try:
            if self._is_here(model.digest, ending):
                done("")
                return
            if self._fetch is None or self._fetch.model != model:
                self._discard()
                fault = too_large(model, self._size_max)
                if fault:
                    done(fault)
                    return
                self._fetch = self._begin(model, done, ending)
        except OSError as bad:
            done(self._disk_fault(bad))
            return
        self._fetch.done = done
        self._fetch.is_wanted = True
        self._fetch.batches = []
        self._fetch.asked_below = 0
        self._ask(self._fetch)

    @property
    def is_fetching(self) -> bool:
        """Whether chunks are waited for."""
        return self._fetch is not None and self._fetch.is_wanted

    def ask_again(self) -> None:
        """For what has not come: the broker has lost the subscription, or has not shown all that it
        retained."""
        fetch = self._fetch
        if fetch is not None and fetch.is_wanted:
            self._unsubscribe(fetch)
            fetch.asked_below = 0
            self._ask(fetch)

    def put(self, model: ModelRef, file: bytes) -> None:
        """A small model that came with its offer. One that is not what it should be is ignored."""
        if hashlib.sha256(file).hexdigest() != model.digest:
            return
        try:
            if not self._is_here(model.digest, MODEL):
                self._discard()
                part = self._part(model)
                part.write_bytes(file)
                self._keep(part, model.digest, MODEL)
        except OSError:
            # It will be fetched like any other, and that tells what is wrong with the disk.
            return

    def adopt(self, digest: Digest) -> None:
        """This model was made here, whole, at its `path`. Raises OSError."""
        self._discard()
        self._sweep_but(self.path(digest))
        self._whole = {digest}

    def stop(self) -> None:
        """Ask for no more. What is here stays, in case the next round offers the same model."""
        if self._fetch is not None:
            self._unsubscribe(self._fetch)
            self._fetch.is_wanted = False

    def close(self) -> None:
        """The agent ends. A part of a model that is on disk is of no use to the next one."""
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.file.close()

    def take(self, address: ModelChunk, data: bytes) -> None:
        """One chunk arrived. One that nobody asked for, or that is being cleared (it is empty), is
        of an old subscription: end it.
        """
        fetch = self._fetch
        is_asked_for = fetch is not None and fetch.is_wanted
        if fetch is None or not is_asked_for or fetch.model.digest != address.digest or not data:
            self._link.unsubscribe([address])
            return
        if not fetch.missing.take(address.index, len(data)):
            return
        start, _ = chunks.span(address.index, fetch.model.size_bytes, fetch.model.chunk_bytes)
        try:
            _write(fetch.file, data, start)
            self._tick_off(fetch, address.index)
            if fetch.missing.left == 0:
                self._finish(fetch)
            else:
                self._ask(fetch)
        except OSError as bad:
            self._discard()
            fetch.done(self._disk_fault(bad))

    def _is_here(self, digest: Digest, ending: str) -> bool:
        path = self.path(digest, ending)
        if digest not in self._whole and path.exists() and sha256_of(path) == digest:
            self._whole.add(digest)
        return digest in self._whole and path.exists()

    def _disk_fault(self, bad: OSError) -> str:
        return f"the model cannot be kept in {self._folder}: {bad.strerror}"

    def _begin(self, model: ModelRef, done: Callable[[str], None], ending: str) -> _Fetch:
        path = self._part(model)
        missing = chunks.Missing(model.size_bytes, model.chunk_bytes)
        return _Fetch(model, path, path.open("wb", buffering=0), missing, done, ending)

    def _discard(self) -> None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            self._unsubscribe(fetch)
            # What cannot be removed is in nobody's way: the next start sweeps it up, or says why
            # not.
            with suppress(OSError):
                fetch.file.close()
                fetch.path.unlink(missing_ok=True)

    def _unsubscribe(self, fetch: _Fetch) -> None:
        for batch in fetch.batches:
            self._link.unsubscribe(_addresses(fetch, batch))
        fetch.batches = []

    def _ask(self, fetch: _Fetch) -> None:
        while len(fetch.batches) < _BATCHES_AHEAD:
            asked: list[int] = []
            while fetch.asked_below < len(fetch.missing.arrived) and len(asked) < BATCH:
                if not fetch.missing.arrived[fetch.asked_below]:
                    asked.append(fetch.asked_below)
                fetch.asked_below += 1
            if not asked:
                return
            batch = _Batch(tuple(asked), set(asked))
            fetch.batches.append(batch)
            self._link.subscribe(_addresses(fetch, batch))

    def _tick_off(self, fetch: _Fetch, index: int) -> None:
        for batch in fetch.batches:
            batch.missing.discard(index)
            if not batch.missing:
                self._link.unsubscribe(_addresses(fetch, batch))
        fetch.batches = [batch for batch in fetch.batches if batch.missing]

    def _finish(self, fetch: _Fetch) -> None:
        digest = fetch.model.digest
        if sha256_of(fetch.path) != digest:
            self._discard()
            fetch.done("the model arrived damaged: its SHA-256 is not the offered one")
            return
        self._keep(fetch.path, digest, fetch.ending)
        fetch.file.close()
        self._fetch = None
        fetch.done("")

    def _part(self, model: ModelRef) -> Path:
        return self._folder / f"{model.digest}.part"

    def _keep(self, part: Path, digest: Digest, ending: str) -> None:
        path = self.path(digest, ending)
        if ending == MODEL:
            self._sweep_but(path)
            self._whole.clear()
        part.replace(path)
        self._whole.add(digest)

    def _sweep_but(self, newest: Path) -> None:
        """Models before it, and what led to it."""
        for older in (*files(self._folder, MODEL), *files(self._folder, DELTA)):
            if older != newest:
                older.unlink()


def too_large(model: ModelRef, size_max: int) -> str:
    """Why a model is not fetched at all; empty where it may be."""
    if model.size_bytes <= size_max:
        return ""
    return (
        f"the model has {model.size_bytes} bytes,"
        f" more than this client's model_bytes_max = {size_max}"
    )


def _write(file: FileIO, data: bytes, start: int) -> None:
    # A disk that is nearly full takes a part, and says why only when it is given the rest.
    left = memoryview(data)
    while left:
        written = os.pwrite(file.fileno(), left, start)
        left, start = left[written:], start + written


def _addresses(fetch: _Fetch, batch: _Batch) -> list[ModelChunk]:
    return [ModelChunk(fetch.model.digest, index) for index in batch.asked]

"""Models that a coordinator left on the broker when it was killed: found by their first chunk, and
cleared.

What we know of, such as the last rounds' models, is cleared by what we know. Of a stranger's the
first chunk tells how many there are: it has the size of all but the last, and begins with the
header of a model's file or of a delta's. Chunks are published from the first to the last and
cleared from the last to the first, so whatever lies there has its first.
"""

import logging
from collections.abc import Callable, Iterable, Iterator

from coordinator.models import published_model
from fedmqtt import chunks, deltas, weights
from fedmqtt.deltas import DeltaError
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import MqttLink, Part
from fedmqtt.topics import Digest, Topics
from fedmqtt.weights import WeightsError

LISTEN_S: Seconds = 10.0
"""What is retained comes at once; it has that long to."""

STRANGE_CHUNKS_MAX = 10_000
"""Of a model that we know nothing of: anybody can write a header that claims a million."""

CHUNK_BYTES_MIN = 1024
"""Only a last chunk is shorter (see `ModelRef`)."""

_log = logging.getLogger("coordinator")


class OldModels:
    def __init__(
        self, loop: EventLoop, link: MqttLink, topics: Topics, may_act: Callable[[], bool]
    ) -> None:
        """Nothing more is cleared as soon as we no longer `may_act`."""
        self._loop = loop
        self._link = link
        self._filter = topics.any_model
        self._may_act = may_act
        self._known: dict[Digest, ModelRef] = {}
        self._timer: Timer | None = None

    def look(self, known: Iterable[ModelRef]) -> None:
        """On this connection. `known` are models of ours that may still lie there."""
        self._known = {ref.digest: ref for ref in known}
        self._link.listen_if_allowed(self._filter, self._forbidden)
        if self._timer is not None:
            # It was another connection's.
            self._timer.cancel()
        self._timer = self._loop.call_in(LISTEN_S, lambda: self._link.unlisten(self._filter))

    def _forbidden(self, reason: str) -> None:
        # All else works: what a killed coordinator left lies there until a person sees to it.
        _log.warning(
            "old models stay on the broker, which does not let us read %s: %s", self._filter, reason
        )

    def clear(self, digest: Digest, first: bytes) -> None:
        """This first chunk lies on the broker, of a model that nobody wants any more."""
        known = self._known.pop(digest, None)
        ref = as_it_lies(known, first) if known is not None else _strangers(digest, first)
        if ref is None:
            _log.warning("on the broker lies what cannot be told to be a model of ours: %s", digest)
            return
        _log.info("clearing an old model from the broker: %s", digest[:12])
        self._link.stream(self._clearing(ref), behind=True)

    def _clearing(self, ref: ModelRef) -> Iterator[Part]:
        for part in published_model.cleared(ref):
            if not self._may_act():
                # It may be the model that a successor offers.
                return
            yield part


def as_it_lies(ref: ModelRef, first: bytes) -> ModelRef:
    """The model, in as many chunks as there may be on the broker: this first one is there."""
    return published_model.in_more_chunks(ref, max(CHUNK_BYTES_MIN, len(first)))


def _file_bytes(first: bytes) -> int:
    try:
        return weights.file_bytes(first)
    except WeightsError:
        return deltas.file_bytes(first)


def _strangers(digest: Digest, first: bytes) -> ModelRef | None:
    try:
        size_bytes = _file_bytes(first)
    except (WeightsError, DeltaError):
        return None
    if len(first) < min(size_bytes, CHUNK_BYTES_MIN):
        return None
    chunk_bytes = max(CHUNK_BYTES_MIN, len(first))
    if chunks.count(size_bytes, chunk_bytes) > STRANGE_CHUNKS_MAX:
        return None
    return ModelRef(digest=digest, size_bytes=size_bytes, chunk_bytes=chunk_bytes, fingerprint="")

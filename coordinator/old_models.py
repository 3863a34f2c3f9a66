"""Models that a coordinator left on the broker when it was killed: found by their first chunk, and
cleared.

What we know of, such as the last rounds' models, is cleared by what we know. Of a stranger's the
first chunk tells how many there are: it has the size of all but the last, and begins with the
model file's header. Chunks are published from the first to the last and cleared from the last to
the first, so whatever lies there has its first.
"""

import logging
from collections.abc import Callable, Iterable

from coordinator import published_model
from fedmqtt import chunks, weights
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.topics import Digest, ModelChunk, Topics
from fedmqtt.weights import WeightsError

LISTEN_S = 10.0
"""What is retained comes at once; it has that long to."""

_log = logging.getLogger("coordinator")


class OldModels:
    def __init__(self, loop: EventLoop, link: MqttLink, topics: Topics) -> None:
        self._loop = loop
        self._link = link
        self._filter = topics.any_model
        self._known: dict[Digest, ModelRef] = {}

    def look(self, known: Iterable[ModelRef]) -> None:
        """On this connection. `known` are models of ours that may still lie there."""
        self._known = {ref.digest: ref for ref in known}
        self._link.listen(self._filter)
        self._loop.call_in(LISTEN_S, lambda: self._link.unlisten(self._filter))

    def seen(self, address: ModelChunk, data: bytes, is_wanted: Callable[[Digest], bool]) -> None:
        """A first chunk lies on the broker."""
        if not data or address.index != 0 or is_wanted(address.digest):
            return
        ref = self._known.pop(address.digest, None) or _ref_of(address.digest, data)
        if ref is None:
            _log.warning("on the broker lies a model that cannot be read: %s", address.digest)
            return
        _log.info("clearing an old model from the broker: %s", address.digest[:12])
        self._link.stream(iter(published_model.cleared(ref)))


def _ref_of(digest: Digest, first: bytes) -> ModelRef | None:
    try:
        size_bytes = weights.file_bytes(first)
    except WeightsError:
        return None
    chunk_bytes = max(1024, len(first))
    if chunks.count(size_bytes, chunk_bytes) > 1_000_000:
        return None
    return ModelRef(digest=digest, size_bytes=size_bytes, chunk_bytes=chunk_bytes, fingerprint="")

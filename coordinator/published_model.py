"""The model that clients fetch: its numbers, its file, and the chunks it is published in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msgspec import structs

from fedmqtt import chunks, weights
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import Part
from fedmqtt.topics import ModelChunk
from fedmqtt.weights import Array, Layout


@dataclass(frozen=True, slots=True)
class PublishedModel:
    layout: Layout
    flat: Array
    file: bytes
    ref: ModelRef
    trained_rounds: int
    """Rounds whose average went into it."""


def make(layout: Layout, flat: Array, trained_rounds: int, chunk_bytes: int) -> PublishedModel:
    file = weights.write(layout, flat)
    ref = ModelRef(
        digest=weights.digest(file),
        size_bytes=len(file),
        chunk_bytes=chunk_bytes,
        fingerprint=layout.fingerprint,
    )
    return PublishedModel(layout, flat, file, ref, trained_rounds)


def parts(model: PublishedModel, is_wanted: Callable[[], bool]) -> Iterator[Part]:
    """Its chunks, to be published one after the other, for as long as it is wanted."""
    view = memoryview(model.file)
    ref = model.ref
    for index in range(chunks.count(ref.size_bytes, ref.chunk_bytes)):
        if not is_wanted():
            return
        start, stop = chunks.span(index, ref.size_bytes, ref.chunk_bytes)
        yield Part(ModelChunk(ref.digest, index), bytes(view[start:stop]))


def cleared(ref: ModelRef) -> Iterator[Part]:
    """What takes its chunks off the broker. The first goes last: by it the others are found."""
    for index in reversed(range(chunks.count(ref.size_bytes, ref.chunk_bytes))):
        yield Part(ModelChunk(ref.digest, index), b"")


def in_more_chunks(ref: ModelRef, chunk_bytes: int) -> ModelRef:
    """The same model, in chunks of this size if they are smaller: to clear it in all its cuts."""
    return structs.replace(ref, chunk_bytes=min(ref.chunk_bytes, chunk_bytes))

"""The model that clients fetch: its numbers, its file, and the chunks it is published in.

What clients fetch may be a little off the coordinator's own numbers: see `downlink.py`.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace

import numpy as np
from msgspec import structs

from fedmqtt import chunks, control, weights
from fedmqtt.deltas import Delta
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import Part
from fedmqtt.topics import Digest, ModelChunk
from fedmqtt.weights import Array, Layout


@dataclass(frozen=True, slots=True)
class PublishedModel:
    layout: Layout
    flat: Array
    """The coordinator's own numbers, to which rounds' averages are added, shape (size,)."""
    digest: Digest
    """Of those, as a file."""
    published: Array
    """The numbers that clients have, and train from, shape (size,); where the strategy has a
    control, that is behind them (`fedmqtt/control.py`)."""
    file: bytes
    """Of the published numbers."""
    ref: ModelRef
    trained_rounds: int
    """Rounds whose average went into it."""
    deltas: tuple[Delta, ...] = ()
    """Which lead to it, as in `ref`."""

    @property
    def is_off(self) -> bool:
        """Whether clients have other numbers than the coordinator."""
        return self.ref.digest != self.digest

    @property
    def delta_bytes(self) -> int:
        """Of the one that leads from the model before it; 0 where none does."""
        return self.deltas[-1].ref.size_bytes if self.deltas else 0

    def refs(self) -> Iterator[ModelRef]:
        """Of every file of it on the broker."""
        return refs(self.ref)


def make(
    layout: Layout,
    flat: Array,
    trained_rounds: int,
    chunk_bytes: int,
    its_control: Array | None = None,
) -> PublishedModel:
    """A model that is published as it is, and behind it its control, if it has one."""
    if its_control is not None:
        published = beside(flat, its_control)
        return make_off(layout, flat, published, (), trained_rounds, chunk_bytes)
    file = weights.write(layout, flat)
    ref = _ref(layout, file, chunk_bytes)
    return PublishedModel(layout, flat, ref.digest, flat, file, ref, trained_rounds)


def make_off(
    layout: Layout,
    flat: Array,
    published: Array,
    deltas: tuple[Delta, ...],
    trained_rounds: int,
    chunk_bytes: int,
) -> PublishedModel:
    """A model of which clients have the `published` numbers."""
    file = weights.write(control.beside(layout, published.size - layout.size), published)
    ref = _ref(layout, file, chunk_bytes)
    ref = structs.replace(ref, deltas=tuple(delta.ref for delta in deltas))
    own = weights.digest(weights.write(layout, flat))
    # The file's numbers, and not a second copy of them.
    _, read = weights.read(file)
    return PublishedModel(layout, flat, own, read, file, ref, trained_rounds, deltas)


def beside(flat: Array, its_control: Array | None) -> Array:
    """What clients are to have of a model: its numbers and its control."""
    return flat if its_control is None else np.concatenate([flat, its_control])


def cut(model: PublishedModel, chunk_bytes: int) -> PublishedModel:
    """The same model, in chunks of this size."""
    return replace(model, ref=structs.replace(model.ref, chunk_bytes=chunk_bytes))


def refs(model: ModelRef) -> Iterator[ModelRef]:
    """Of every file of a model on the broker: the deltas', and the whole one's last."""
    for delta in model.deltas:
        yield model.file_of(delta)
    yield structs.replace(model, deltas=())


def parts(
    model: PublishedModel,
    is_wanted: Callable[[], bool],
    lying: Container[Digest] = (),
    lies: Callable[[Digest], None] = lambda digest: None,
) -> Iterator[Part]:
    """Its chunks, to be published one after the other, for as long as it is wanted.

    Deltas first, since most clients wait for those; without those that are `lying` there. `lies`
    hears of each whose last chunk is taken.
    """
    for delta in model.deltas:
        if delta.ref.digest not in lying:
            yield from _chunks(model.ref.file_of(delta.ref), delta.file, is_wanted)
            if is_wanted():
                lies(delta.ref.digest)
    yield from _chunks(model.ref, model.file, is_wanted)


def cleared(ref: ModelRef) -> Iterator[Part]:
    """What takes its chunks off the broker. The first goes last: by it the others are found."""
    for index in reversed(range(chunks.count(ref.size_bytes, ref.chunk_bytes))):
        yield Part(ModelChunk(ref.digest, index), b"")


def in_more_chunks(ref: ModelRef, chunk_bytes: int) -> ModelRef:
    """The same model, in chunks of this size if they are smaller: to clear it in all its cuts."""
    return structs.replace(ref, chunk_bytes=min(ref.chunk_bytes, chunk_bytes))


def _ref(layout: Layout, file: bytes, chunk_bytes: int) -> ModelRef:
    return ModelRef(
        digest=weights.digest(file),
        size_bytes=len(file),
        chunk_bytes=chunk_bytes,
        fingerprint=layout.fingerprint,
    )


def _chunks(ref: ModelRef, file: bytes, is_wanted: Callable[[], bool]) -> Iterator[Part]:
    view = memoryview(file)
    for index in range(chunks.count(ref.size_bytes, ref.chunk_bytes)):
        if not is_wanted():
            return
        start, stop = chunks.span(index, ref.size_bytes, ref.chunk_bytes)
        yield Part(ModelChunk(ref.digest, index), bytes(view[start:stop]))

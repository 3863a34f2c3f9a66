"""A model is published in chunks that add up to its file, and is taken off chunk by chunk."""

import numpy as np

from coordinator.models import published_model
from fedmqtt import weights
from fedmqtt.weights import layout_of

WEIGHTS = {"w": np.arange(1000, dtype=np.float32).reshape(10, 100)}


def a_model(chunk_bytes: int = 1024) -> published_model.PublishedModel:
    layout = layout_of(WEIGHTS)
    return published_model.make(layout, layout.flatten(WEIGHTS), 3, chunk_bytes)


def test_the_chunks_add_up_to_a_file_that_reads_back() -> None:
    model = a_model()
    found = list(published_model.parts(model, lambda: True))
    assert [part.address.index for part in found] == [0, 1, 2, 3]  # type: ignore[union-attr]
    file = b"".join(part.payload for part in found)
    assert weights.digest(file) == model.ref.digest and len(file) == model.ref.size_bytes
    layout, flat = weights.read(file)
    assert np.array_equal(layout.unflatten(flat)["w"], WEIGHTS["w"])


def test_a_model_that_is_not_wanted_any_more_is_not_published_to_its_end() -> None:
    answers = iter([True, True, False])
    assert len(list(published_model.parts(a_model(), lambda: next(answers)))) == 2


def test_what_was_published_is_what_is_cleared() -> None:
    model = a_model()
    published = [part.address for part in published_model.parts(model, lambda: True)]
    cleared = list(published_model.cleared(model.ref))
    # By its first chunk a coordinator that comes later finds the others.
    assert [part.address for part in reversed(cleared)] == published
    assert {part.payload for part in cleared} == {b""}

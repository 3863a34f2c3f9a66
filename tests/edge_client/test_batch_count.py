"""Which epoch and which batch it is, told by nothing but shares of the whole."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_client.batch_count import BatchCount
from edge_client.training_job import Progress


def _told(epochs: int, samples: int, batch_size: int) -> list[tuple[int, int, int]]:
    """As a task tells it that trains on so many samples: each call's epoch, batch and batches."""
    count = BatchCount(epochs)
    found = []
    for epoch in range(epochs):
        for start in range(0, samples, batch_size):
            seen = min(samples, start + batch_size)
            said = count.heard((epoch + seen / samples) / epochs)
            found.append((said.epoch, said.batch, said.batches))
    return found


def test_two_epochs_of_three_batches_of_which_the_last_is_not_full() -> None:
    assert _told(epochs=2, samples=5, batch_size=2) == [
        (1, 1, 3),
        (1, 2, 3),
        (1, 3, 3),
        (2, 1, 3),
        (2, 2, 3),
        (2, 3, 3),
    ]


@given(st.integers(1, 20), st.integers(1, 60), st.integers(1, 70))
def test_every_batch_is_found_whatever_the_data(epochs: int, samples: int, size: int) -> None:
    batches = -(-samples // size)
    assert _told(epochs, samples, size) == [
        (epoch, batch, batches) for epoch in range(1, epochs + 1) for batch in range(1, batches + 1)
    ]


def test_a_task_that_only_asks_whether_to_go_on_makes_no_batch() -> None:
    count = BatchCount(2)
    assert count.heard(0.0) == Progress(fraction=0.0, epochs=2)
    assert count.heard(0.25).batch == 1
    assert count.heard(0.25).batch == 1
    assert count.heard(0.1).batch == 1


def test_nonsense_of_a_task_is_no_batch() -> None:
    for nonsense in (math.nan, -1.0, 5e-324):
        assert BatchCount(3).heard(nonsense).batches == 0
    assert BatchCount(3).heard(math.inf).fraction == 1.0
    assert BatchCount(0).heard(0.5) == Progress(fraction=0.0)

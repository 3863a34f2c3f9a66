"""A round's changes on disk: in the order of names, and gone with the round."""

import errno
import gc
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from coordinator.rounds import Named
from coordinator.sums.update_set import NoRoom, UpdateSet
from fedmqtt.topics import ClientId, RoundId


def named(client: str, number: int = 3) -> Named:
    return Named(ClientId(client), RoundId(number))


def test_rows_are_in_the_order_of_names_however_they_came(tmp_path: Path) -> None:
    updates = UpdateSet(tmp_path, size=2, rows_max=4)
    # Round 10 is after round 9, and a client's late answer beside its newer one.
    for who, number, value in [("cat", 10, 1), ("ann", 10, 2), ("bob", 10, 3), ("ann", 9, 4)]:
        updates.add(named(who, number), np.full(2, value, np.float32), 10 * value)
    stored, places = updates.stored()
    assert stored[places].tolist() == [[4, 4], [2, 2], [3, 3], [1, 1]]
    assert updates.names() == ["ann/9", "ann/10", "bob/10", "cat/10"]
    assert updates.samples() == [40, 20, 30, 10]
    assert len(updates) == 4


def test_it_has_no_name_in_its_folder_and_its_room_is_free_when_it_is_forgotten(
    tmp_path: Path,
) -> None:
    updates = UpdateSet(tmp_path, size=1000, rows_max=4)
    updates.add(named("ann"), np.ones(1000, np.float32), 1)
    stored, _ = updates.stored()
    assert list(tmp_path.iterdir()) == []
    file = updates._file
    del updates, stored
    gc.collect()
    assert file.closed


def test_a_row_that_is_no_contiguous_float32_is_written_as_one(tmp_path: Path) -> None:
    updates = UpdateSet(tmp_path, size=3, rows_max=1)
    updates.add(named("ann"), np.arange(6, dtype=np.float32)[::2], 1)
    assert updates.stored()[0].tolist() == [[0, 2, 4]]


def test_too_little_room_is_one_sentence_with_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**10, 0, 79 * 10**6))
    UpdateSet(tmp_path, size=10**6, rows_max=19)
    with pytest.raises(NoRoom) as refused:
        UpdateSet(tmp_path, size=10**6, rows_max=20)
    assert str(refused.value) == (
        f"{tmp_path}: this aggregation keeps all of a round's updates there, up to 20 of 4.0 MB,"
        " and 79 MB are free"
    )
    assert refused.value.errno == errno.ENOSPC

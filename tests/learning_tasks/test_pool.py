"""A pool of samples: what must agree in it, how it is told from another, that it is read once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from learning_tasks.pool import Pool, kept_pool
from learning_tasks.seam import TaskError


def _pool(targets: list[int], width: int = 2) -> Pool:
    return Pool(torch.zeros(len(targets), width), torch.tensor(targets))


def test_the_samples_of_a_client_come_in_the_order_of_their_positions() -> None:
    pool = Pool(torch.arange(8.0).reshape(4, 2), torch.tensor([3, 2, 1, 0]))
    inputs, targets = pool.samples(np.array([1, 3])).tensors
    assert inputs.tolist() == [[2, 3], [6, 7]]
    assert targets.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("owners", "recordings", "said"),
    [
        (["ann"], None, "2 inputs, 2 targets, 1 owners"),
        (None, [0, 0, 1], "2 inputs, 2 targets, 3 recordings"),
    ],
)
def test_a_pool_with_too_many_of_something_is_refused(
    owners: list[str] | None, recordings: list[int] | None, said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        Pool(torch.zeros(2, 1), torch.zeros(2), owners, recordings)


def test_pools_are_told_apart_by_size_shape_and_targets() -> None:
    one = _pool([0, 1, 2]).digest
    assert _pool([0, 1, 2]).digest == one
    others = (_pool([0, 1]), _pool([0, 2, 1]), _pool([0, 1, 2], width=3))
    floats = Pool(torch.zeros(3, 2), torch.tensor([0.0, 1.0, 2.0]))
    assert len({one, floats.digest, *(pool.digest for pool in others)}) == 5


def test_a_process_reads_a_pool_once() -> None:
    read: list[str] = []

    def load_pool(data_dir: Path, purpose: str) -> Pool:
        read.append(purpose)
        return _pool([0])

    pools = [kept_pool(load_pool, Path("here"), purpose) for purpose in ("train", "test", "train")]
    assert read == ["train", "test"]
    assert pools[0] is pools[2]
    kept_pool(load_pool, Path("there"), "train")
    assert read == ["train", "test", "train"]


def test_whatever_load_pool_stumbles_over_is_told_with_the_folder() -> None:
    def load_pool(data_dir: Path, purpose: str) -> Pool:
        raise ZeroDivisionError("by zero")

    with pytest.raises(TaskError, match=r"load_pool failed in here \(ZeroDivisionError: by zero\)"):
        kept_pool(load_pool, Path("here"), "train")

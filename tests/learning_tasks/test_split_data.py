"""The file that says who holds which samples, and the data that each client then finds."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from learning_tasks import split_data
from learning_tasks.pool import Pool
from learning_tasks.seam import TaskError
from learning_tasks.split_data import Split
from learning_tasks.torch_training import TorchTask


def _split(digest: str = "") -> Split:
    """Ann trains on 0 and 3 and is judged on 5; bob trains on 1 and holds nothing back."""
    return Split(
        data_dir="the pool's folder",
        pool_digest=digest,
        clients=("ann", "bob"),
        train=(np.array([0, 3]), np.array([1])),
        held_out=(np.array([5]), np.array([], np.int64)),
        labels=("no", "yes"),
        label_counts=np.array([[2, 1], [0, 1]]),
        label_means=np.array([1 / 3, 1.0]),
        made_by='{"kind": "by hand"}',
    )


class Tens:
    """A task file without load_data: sample i of the training pool is 10 i, of the test pool -i."""

    CLASS_NAMES = ("no", "yes")

    def build_model(self) -> nn.Module:
        return nn.Linear(1, 2)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def load_pool(self, data_dir: Path, purpose: str) -> Pool:
        assert data_dir == Path("the pool's folder")
        inputs = torch.arange(6.0).reshape(6, 1) * (10 if purpose == "train" else -1)
        return Pool(inputs, torch.tensor([0, 1, 0, 0, 1, 1]))


class TensAtHome(Tens):
    """The same with data of its own, for a client that is not in the lab."""

    def load_data(self, data_dir: Path, client: str, purpose: str) -> TensorDataset:
        return TensorDataset(torch.tensor([[7.0]]), torch.tensor([1]))


def _digest() -> str:
    return Tens().load_pool(Path("the pool's folder"), "train").digest


def _inputs(task: TorchTask, folder: Path, client: str, purpose: str) -> list[float]:
    data = task.load_data(folder, client, purpose)
    assert isinstance(data, TensorDataset)
    return data.tensors[0].flatten().tolist()


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = split_data.write(_split("abc"), tmp_path / "new")
    assert path == tmp_path / "new" / "split.npz"
    assert list(path.parent.iterdir()) == [path]
    found = split_data.read(path.parent)
    assert (found.data_dir, found.pool_digest) == ("the pool's folder", "abc")
    assert found.made_by == '{"kind": "by hand"}'
    assert (found.clients, found.labels) == (("ann", "bob"), ("no", "yes"))
    assert [own.tolist() for own in found.train] == [[0, 3], [1]]
    assert [own.tolist() for own in found.held_out] == [[5], []]
    assert found.label_counts.tolist() == [[2, 1], [0, 1]]
    assert found.label_means.tolist() == [1 / 3, 1.0]


def test_a_split_without_classes_is_read_as_it_was_written(tmp_path: Path) -> None:
    split_data.write(replace(_split(), labels=(), label_counts=np.zeros((2, 0), int)), tmp_path)
    assert split_data.read(tmp_path).labels == ()


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path) -> None:
    split_data.write(_split(), tmp_path)
    first = split_data.read(tmp_path)
    assert split_data.read(tmp_path) is first
    split_data.write(replace(_split(), clients=("cat", "dan")), tmp_path)
    assert split_data.read(tmp_path).clients == ("cat", "dan")


def test_a_folder_without_a_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no .*split\.npz: make one"):
        split_data.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 half a download"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "split.npz").write_bytes(content)
    with pytest.raises(TaskError, match=r"split\.npz does not say who holds which samples"):
        split_data.read(tmp_path)


def test_a_split_that_misses_an_array_is_refused(tmp_path: Path) -> None:
    path = split_data.write(_split(), tmp_path)
    with zipfile.ZipFile(path) as whole:
        kept = {name: whole.read(name) for name in whole.namelist() if name != "train.npy"}
    with zipfile.ZipFile(path, "w") as part:
        for name, content in kept.items():
            part.writestr(name, content)
    with pytest.raises(TaskError, match="split the data again"):
        split_data.read(tmp_path)


def test_counts_that_do_not_fit_the_positions_are_refused(tmp_path: Path) -> None:
    split_data.write(replace(_split(), clients=("ann", "bob", "cat")), tmp_path)
    with pytest.raises(TaskError, match="3 positions for 2 counts and 3 clients"):
        split_data.read(tmp_path)


def test_each_client_finds_its_own_samples_and_its_own_held_out_ones(tmp_path: Path) -> None:
    split_data.write(_split(_digest()), tmp_path)
    task = TorchTask(Tens())
    assert _inputs(task, tmp_path, "ann", "train") == [0, 30]
    assert _inputs(task, tmp_path, "ann", "evaluate") == [50]
    assert _inputs(task, tmp_path, "bob", "train") == [10]


def test_the_judge_evaluates_on_the_whole_test_pool_and_never_trains(tmp_path: Path) -> None:
    split_data.write(_split(_digest()), tmp_path)
    task = TorchTask(Tens())
    assert _inputs(task, tmp_path, "judge", "evaluate") == [0, -1, -2, -3, -4, -5]
    with pytest.raises(TaskError, match="judge evaluates on what no client trains on"):
        task.load_data(tmp_path, "judge", "train")


def test_a_client_that_holds_nothing_back_cannot_evaluate(tmp_path: Path) -> None:
    split_data.write(_split(_digest()), tmp_path)
    with pytest.raises(TaskError, match=r"bob holds no samples back to evaluate on.*let judge"):
        TorchTask(Tens()).load_data(tmp_path, "bob", "evaluate")


def test_an_unknown_client_is_told_who_there_is(tmp_path: Path) -> None:
    split_data.write(_split(_digest()), tmp_path)
    with pytest.raises(TaskError, match=r"eve is none of the 2 clients .* ann to bob, and judge"):
        TorchTask(Tens()).load_data(tmp_path, "eve", "train")


def test_a_split_of_another_pool_is_refused(tmp_path: Path) -> None:
    split_data.write(_split("of another pool"), tmp_path)
    with pytest.raises(TaskError, match=r"another pool than the 6 samples in the pool's folder"):
        TorchTask(Tens()).load_data(tmp_path, "ann", "train")


def test_a_task_with_both_reads_its_own_files_where_there_is_no_split(tmp_path: Path) -> None:
    task = TorchTask(TensAtHome())
    assert _inputs(task, tmp_path, "ann", "train") == [7]
    split_data.write(_split(_digest()), tmp_path)
    assert _inputs(task, tmp_path, "ann", "train") == [0, 30]


def test_a_task_that_has_only_a_pool_needs_a_split(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"there is no .*split\.npz, and this task has no load_data"
    ):
        TorchTask(Tens()).load_data(tmp_path, "ann", "train")


def test_a_task_without_a_pool_has_none_to_split() -> None:
    class AtHome:
        def build_model(self) -> nn.Module:
            return nn.Linear(1, 2)

        def load_data(self, data_dir: Path, client: str, purpose: str) -> TensorDataset:
            return TensorDataset(torch.tensor([[7.0]]), torch.tensor([1]))

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return outputs.mean()

    with pytest.raises(TaskError, match="this task has no load_pool"):
        TorchTask(AtHome()).load_pool(Path(), "train")

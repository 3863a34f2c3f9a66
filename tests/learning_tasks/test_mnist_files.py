"""The files of MNIST: read to the last byte, and refused by name where they are something else."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from learning_tasks import mnist_files
from learning_tasks.seam import TaskError
from tests.learning_tasks.idx_files import idx, write_mnist
from tests.learning_tasks.published_data import folder_of


def test_an_array_comes_back_in_the_shape_that_its_head_says(tmp_path: Path) -> None:
    path = tmp_path / "cube.gz"
    # Type 8, three dimensions: 2, 1 and 3.
    path.write_bytes(
        gzip.compress(bytes.fromhex("00000803 00000002 00000001 00000003 010203040506"))
    )
    assert mnist_files.read_idx(path).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


def test_pixels_go_from_0_to_1_and_labels_are_classes(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=4, test=3)
    images, digits = mnist_files.read(tmp_path, "train")
    assert images.shape == (4, 28, 28)
    assert (images.dtype.name, digits.dtype.name) == ("float32", "int64")
    assert digits.tolist() == [0, 1, 2, 3]
    assert (images[0].min(), images[0].max()) == (0, 1)
    assert len(mnist_files.read(tmp_path, "test")[0]) == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"there is no .*train-images-idx3-ubyte\.gz: give the folder"
    ):
        mnist_files.read(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"plain bytes", "cannot be read as a gzip file", id="plain bytes"),
        pytest.param(
            gzip.compress(b"abc" * 99)[:-12], "cannot be read as a gzip file", id="cut gzip"
        ),
        pytest.param(
            gzip.compress(b""), "not an idx file of bytes: it begins with $", id="nothing"
        ),
        pytest.param(
            gzip.compress(b"\0\0\x0d\1" + bytes(8)),
            "not an idx file of bytes: it begins with 00000d01",
            id="another type",
        ),
        pytest.param(gzip.compress(b"\0\0\x08\1\0"), "cut off", id="cut head"),
        pytest.param(
            gzip.compress(idx(np.zeros(9, np.uint8))[:-1]),
            r"cut off: 8 values for a shape of \(9,\)",
            id="cut values",
        ),
        pytest.param(
            gzip.compress(b"\0\0\x08\3" + b"\xff" * 12), "cut off: 0 values", id="no values"
        ),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=rf"labels\.gz.*{said}"):
        mnist_files.read_idx(path)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=4, test=3)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").replace(tmp_path / "train-labels-idx1-ubyte.gz")
    with pytest.raises(TaskError, match=r"not those of MNIST: .*\(4, 28, 28\) and labels.*\(3,\)"):
        mnist_files.read(tmp_path, "train")


def test_the_published_files_hold_the_published_digits() -> None:
    folder = folder_of("mnist")
    for purpose, count, zeros in (("train", 60_000, 5_923), ("test", 10_000, 980)):
        images, digits = mnist_files.read(folder, purpose)
        assert images.shape == (count, 28, 28)
        assert np.bincount(digits)[0] == zeros

"""MNIST made small, against pictures that can be worked out by hand."""

from pathlib import Path

import torch

from experiments import mislabelled_small_mnist, small_mnist
from tests.learning_tasks.idx_files import write_mnist


def test_pixels_are_means_of_four_and_a_fifth_of_the_training_digits_is_taken(
    tmp_path: Path,
) -> None:
    write_mnist(tmp_path, train=20, test=4)
    train = small_mnist.load_pool(tmp_path, "train")
    test = small_mnist.load_pool(tmp_path, "test")
    assert train.targets.tolist() == [0, 5, 0, 5] and test.targets.tolist() == [0, 1, 2, 3]
    assert tuple(test.inputs.shape) == (4, 14 * 14)
    # A 1 is a bar from row 2 to row 5, of columns 4 to 23.
    wanted = torch.zeros(14, 14)
    wanted[1:3, 2:12] = 1.0
    torch.testing.assert_close(test.inputs[1].reshape(14, 14), wanted)
    assert small_mnist.build_model()(test.inputs).shape == (4, 10)
    numbers = sum(one.numel() for one in small_mnist.build_model().parameters())
    assert f"{numbers:,}" in str(small_mnist.__doc__)


def test_whoever_mislabels_calls_each_digit_its_complement(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=20, test=4)
    assert mislabelled_small_mnist.load_pool(tmp_path, "train").targets.tolist() == [9, 4, 9, 4]

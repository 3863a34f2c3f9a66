"""Whether targets are classes: what is wrong with them, and what to do."""

import pytest
import torch
from torch import Tensor

from learning_tasks import class_targets


@pytest.mark.parametrize(
    "targets",
    [
        torch.tensor([0, 1, 1]),
        torch.tensor([1, 1], dtype=torch.uint8),
        torch.tensor([], dtype=torch.int64),
    ],
)
def test_classes_have_no_fault_even_where_there_is_but_one(targets: Tensor) -> None:
    assert class_targets.fault(targets, 2) == ""


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (torch.tensor([1, 2]), "the targets go from 1 to 2: number the classes from 0 to 1"),
        (torch.tensor([-1, 0]), "the targets go from -1 to 0: number the classes from 0 to 1"),
        (torch.tensor([0.0, 1.0]), "and these are float32: make them so, with targets.long()"),
        (
            torch.tensor([[0], [1]]),
            "the shape (2, 1): give one whole number for each, of the shape (2,)",
        ),
    ],
)
def test_what_is_no_class_is_told_with_what_to_do(targets: Tensor, said: str) -> None:
    assert said in class_targets.fault(targets, 2)

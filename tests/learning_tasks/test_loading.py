"""How a task is found by name, and what its owner reads when it is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from learning_tasks.loading import load_task
from learning_tasks.measures import Measured, measured
from learning_tasks.seam import Evaluated, TaskError

TORCH_TASK = """
import torch
from torch.utils.data import TensorDataset
CLASS_NAMES = ("no", "yes")
def build_model(): return torch.nn.Linear(2, 2)
def load_data(data_dir, client, purpose):
    return TensorDataset(torch.ones(3, 2), torch.ones(3).long())
def loss(outputs, targets): return torch.nn.functional.cross_entropy(outputs, targets)
"""


def _file(folder: Path, text: str) -> str:
    path = folder / "my_task.py"
    path.write_text(text)
    return str(path)


def test_a_module_that_needs_no_torch_loads_without_it() -> None:
    program = (
        "import sys; from learning_tasks.loading import load_task; "
        "load_task('learning_tasks.linear'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_file_with_a_torch_model_becomes_a_task(tmp_path: Path) -> None:
    task = load_task(_file(tmp_path, TORCH_TASK))
    weights = task.initial_weights(0)
    evaluated = task.evaluate(weights, task.load_data(tmp_path, "ann", "evaluate"))
    assert {name: array.shape for name, array in weights.items()} == {
        "weight": (2, 2),
        "bias": (2,),
    }
    assert evaluated.sample_count == 3


def test_a_task_that_predicts_a_number_is_judged_by_its_loss_alone(tmp_path: Path) -> None:
    text = """
import torch
from torch.utils.data import TensorDataset
def build_model(): return torch.nn.Linear(2, 1)
def load_data(data_dir, client, purpose):
    return TensorDataset(torch.ones(3, 2), torch.full((3, 1), 4.0))
def loss(outputs, targets): return torch.nn.functional.mse_loss(outputs, targets)
"""
    task = load_task(_file(tmp_path, text))
    zeros = {name: 0 * array for name, array in task.initial_weights(0).items()}
    evaluated = task.evaluate(zeros, task.load_data(tmp_path, "ann", "evaluate"))
    assert evaluated == Evaluated(3, {"loss": 16.0}, None)
    assert measured(task) == Measured(("loss",), 0)


def test_a_task_file_may_define_dataclasses(tmp_path: Path) -> None:
    # They look their module up in sys.modules while it is still being imported.
    header = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    body = "@dataclass\nclass Reading:\n    value: float\n"
    load_task(_file(tmp_path, header + body + TORCH_TASK))


def test_a_file_with_a_pool_needs_no_data_of_its_own(tmp_path: Path) -> None:
    text = TORCH_TASK.replace("def load_data(data_dir, client, purpose)", "def load_pool(d, p)")
    assert "load_data" not in text
    assert load_task(_file(tmp_path, text)).initial_weights(0).keys() == {"weight", "bias"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "define build_model"),
        ("def build_model(): ...", "not load_data, loss"),
        ("def build_model(): ...\nload_pool = 3", "not load_pool, loss"),
        ("def initial_weights(seed): ...", "not load_data, train, evaluate"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("def build_model(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_is_no_task_is_refused_with_what_to_change(
    tmp_path: Path, text: str, said: str
) -> None:
    name = _file(tmp_path, text)
    with pytest.raises(TaskError) as refused:
        load_task(name)
    assert said in str(refused.value)
    assert name in str(refused.value)


def test_a_missing_file_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no task file nowhere/my_task\.py \(looked in /"):
        load_task("nowhere/my_task.py")


@pytest.mark.parametrize("name", ["no_such_package.task", "learning_tasks.no_such_task"])
def test_a_missing_module_is_told_from_one_that_misses_something(name: str) -> None:
    with pytest.raises(TaskError, match=r"there is no module .*no_such.* for the task"):
        load_task(name)

"""The command that draws the first model, and leaves the coordinator without torch."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from learning_tasks.initial_model import main
from learning_tasks.loading import load_task


def test_the_file_holds_what_the_task_draws_for_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.safetensors"
    assert main(["learning_tasks.starter_task", "--seed", "5", "--out", str(path)]) == 0
    expected = load_task("learning_tasks.starter_task").initial_weights(5)
    written = load_file(path)
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], expected[name]) for name in expected)
    assert list(path.parent.iterdir()) == [path]


def test_a_mistake_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "model.safetensors")
    assert main(["no_such_task", "--out", out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("there is no module no_such_task")
    assert said.count("\n") == 1
    assert not Path(out).exists()

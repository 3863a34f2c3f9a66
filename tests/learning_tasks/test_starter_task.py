"""The file people begin with: it learns at once, and reads a client's own measurements."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedmqtt.messages import Training
from learning_tasks import starter_task
from learning_tasks.loading import load_task
from learning_tasks.seam import TaskError


def test_the_starter_learns_within_ten_rounds_of_the_default_settings() -> None:
    task, nowhere = load_task("learning_tasks.starter_task"), Path()
    weights = task.initial_weights(0)
    for seed in range(10):
        answers = [
            task.train(weights, task.load_data(nowhere, client, "train"), Training(), seed, _silent)
            for client in ("pump-1", "pump-2", "pump-3")
        ]
        weights = {
            name: np.mean([answer.weights[name] for answer in answers], axis=0) for name in weights
        }
    evaluated = task.evaluate(weights, task.load_data(nowhere, "pump-9", "evaluate"))
    assert evaluated.metrics["accuracy"] >= 0.9


def test_the_copy_works_as_a_file_on_its_own(tmp_path: Path) -> None:
    copy = tmp_path / "my_task.py"
    copy.write_text(Path(starter_task.__file__).read_text())
    ours = load_task("learning_tasks.starter_task").initial_weights(3)
    theirs = load_task(str(copy)).initial_weights(3)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_clients_file_is_read_by_its_header_and_every_fifth_row_held_out(tmp_path: Path) -> None:
    lines = ["state,temperature,vibration,current", "idle,35,0,1", *["faulty,65,2,3"] * 4]
    (tmp_path / "pump-1.csv").write_text("\n".join(lines))
    inputs, classes = starter_task.load_data(tmp_path, "pump-1", "train").tensors
    assert classes.tolist() == [0, 2, 2, 2]
    # (35 - 50) / 15, (0 - 1) / 1 and (1 - 3) / 2
    assert torch.equal(inputs[0], torch.tensor([-1.0, -1.0, -1.0]))
    assert len(starter_task.load_data(tmp_path, "pump-1", "evaluate")) == 1


def test_a_state_that_has_no_class_is_told_with_the_client_and_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pump-1.csv").write_text("temperature,vibration,current,state\n35,0,1,broken\n")
    with pytest.raises(TaskError, match=rf"pump-1 failed in {tmp_path}"):
        load_task("learning_tasks.starter_task").load_data(tmp_path, "pump-1", "train")


def test_the_docstring_counts_the_model_right() -> None:
    count = sum(p.numel() for p in starter_task.build_model().parameters())
    assert f"has {count} numbers" in str(starter_task.build_model.__doc__)


def test_invented_measurements_belong_to_the_client() -> None:
    assert starter_task.invent_rows("ann") == starter_task.invent_rows("ann")
    assert starter_task.invent_rows("ann") != starter_task.invent_rows("bob")
    assert len(starter_task.invent_rows("ann", count=7)) == 7


def _silent(fraction: float) -> None:
    pass

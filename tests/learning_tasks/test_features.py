"""The features that tasks name, and those of tasks that name none."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from learning_tasks import features, linear, phonewatch, starter_task
from learning_tasks.loading import load_task
from learning_tasks.seam import Task, TaskError
from learning_tasks.torch_training import TorchTask


def task(**names: Any) -> Task:
    return cast(Task, SimpleNamespace(**names))


def torch_task(**names: Any) -> TorchTask:
    return TorchTask(cast(Any, SimpleNamespace(**names)))


def test_every_measurement_of_a_window_counts_once() -> None:
    data = phonewatch.load_data(Path(), "phone-01", "train")
    found = phonewatch.features(data)
    assert list(found) == list(phonewatch.FEATURE_NAMES)
    windows = len(data)
    assert [len(values) for values in found.values()] == [windows * 32] * 6 + [windows]
    # At rest a phone weighs one g.
    lengths = np.sqrt(sum(found[f"acceleration {axis}"] ** 2 for axis in "xyz"))
    assert np.median(lengths) == pytest.approx(1.0, abs=0.1)


def test_the_linear_task_names_its_columns() -> None:
    data = linear.load_data(Path(), "ann", "train")
    found = features.values(cast(Task, linear), data)
    assert list(found) == list(features.named(cast(Task, linear)))
    assert (found["measurement 3"] == data.inputs[:, 2]).all()


def test_a_torch_task_that_names_none_has_classes_and_columns() -> None:
    found = torch_task(**vars(starter_task))
    data = found.load_data(Path(), "ann", "train")
    told, names = features.values(found, data), features.named(found)
    assert set(told) == {"class", "input 0", "input 1", "input 2"} <= set(names)
    assert names["class"] == ("idle", "working", "faulty")
    assert len(told["class"]) == len(told["input 0"]) == 160


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5,), {"input 0": 5}),
        ((5, 2), {"input 0": 5, "input 1": 5}),
        ((5, 2, 3, 4), {"input 0": 60, "input 1": 60}),
        ((5, 784), {"inputs": 5 * 784}),
        ((5, 17), {"inputs": 85}),
    ],
)
def test_channels_are_features_up_to_a_bound(
    shape: tuple[int, ...], expected: dict[str, int]
) -> None:
    inputs = torch.arange(float(np.prod(shape))).reshape(shape)
    found = torch_task().features(TensorDataset(inputs, torch.arange(5.0)))
    assert {name: len(values) for name, values in found.items()} == {"target": 5, **expected}


def test_a_channel_has_its_own_numbers() -> None:
    inputs = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    found = torch_task().features(TensorDataset(inputs, torch.zeros(2)))
    assert found["input 0"].tolist() == [1, 2, 5, 6]
    assert found["input 1"].tolist() == [3, 4, 7, 8]


def test_a_task_file_may_name_its_own(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from learning_tasks.starter_task import *\n"
        "FEATURE_NAMES = {'temperature': ()}\n"
        "def features(data):\n"
        "    return {'temperature': data.tensors[0][:, 0].numpy() * 15 + 50}\n"
    )
    own = load_task(str(file))
    told = features.values(own, own.load_data(Path(), "ann", "train"))
    assert list(told) == ["temperature"] and 30 < told["temperature"].mean() < 70


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({}, "does not say what there is to describe: define FEATURE_NAMES"),
        ({"FEATURE_NAMES": {"x": ()}}, "does not say what there is to describe"),
        ({"FEATURE_NAMES": 4, "features": print}, "does not say what there is to describe"),
        ({"FEATURE_NAMES": {"": ()}, "features": print}, "'' is no name"),
        ({"FEATURE_NAMES": {"a\nb": ()}, "features": print}, "is no name"),
        ({"FEATURE_NAMES": {"x": "ab"}, "features": print}, r"FEATURE_NAMES\['x'\] must be \(\)"),
        (
            {"FEATURE_NAMES": {f"f{n}": () for n in range(201)}, "features": print},
            "has 201 names; at most 200",
        ),
    ],
)
def test_what_is_wrong_with_the_names_is_told(names: dict[str, Any], told: str) -> None:
    with pytest.raises(TaskError, match=told):
        features.named(task(**names))


def test_the_coordinator_is_told_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert features.main(["learning_tasks.linear"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {name: list(of) for name, of in linear.FEATURE_NAMES.items()}
    assert features.main(["no.such.task"]) == 2
    assert "there is no module no" in capsys.readouterr().err

"""What tasks say that they measure, and what is known of those that say nothing."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from learning_tasks import linear, measures, starter_task
from learning_tasks.measures import Measured
from learning_tasks.seam import Task, TaskError
from learning_tasks.torch_training import TorchTask


def task(**names: Any) -> Task:
    return cast(Task, SimpleNamespace(**names))


def test_a_task_without_torch_names_its_classes_and_metrics() -> None:
    assert measures.measured(cast(Task, linear)) == Measured(("loss",), 3)
    named = task(METRIC_NAMES=("mae", "loss"), CLASS_NAMES=())
    assert measures.measured(named) == Measured(("loss", "mae"), 0)
    assert measures.measured(task()) == Measured(("loss",), 0)


def test_a_torch_tasks_names_are_in_its_file() -> None:
    file = SimpleNamespace(**vars(starter_task), METRIC_NAMES=("top2",))
    assert measures.measured(TorchTask(cast(Any, file))) == Measured(("loss", "top2"), 3)


@pytest.mark.parametrize("named", [{"METRIC_NAMES": "mae"}, {"CLASS_NAMES": (1, 2)}])
def test_what_is_no_list_of_names_is_told(named: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match=f"{next(iter(named))} must be names"):
        measures.measured(task(**named))


def test_the_command_writes_both_or_says_why_not(tmp_path: Path) -> None:
    def asked(name: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "learning_tasks.measures", name]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    told = asked("learning_tasks.linear")
    assert json.loads(told.stdout) == {"metrics": ["loss"], "classes": 3}, told.stderr
    lost = asked(str(tmp_path / "lost.py"))
    assert lost.returncode == 2 and "there is no task file" in lost.stderr

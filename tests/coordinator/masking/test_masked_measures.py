"""What clients are asked to measure under the mask, by the task's word or by the settings."""

import logging
from pathlib import Path

import pytest

from coordinator.config import FederationConfig
from coordinator.masking import masked_measures
from fedmqtt import settings
from fedmqtt.messages import MASKED_CLASSES_MAX, MASKED_METRICS_MAX

_MASKED = ('name="ward-7"', "privacy.aggregation=keyholders", "rounds.quorum=10")


def _settled(*overrides: str) -> tuple[tuple[str, ...], int]:
    config = settings.read(None, [*_MASKED, *overrides], FederationConfig)
    found = masked_measures.settle(config).evaluation
    return found.metrics, found.classes


def _task(folder: Path, *lines: str) -> str:
    path = folder / "own.py"
    functions = [
        f"def {name}(*given): ..." for name in ("load_data", "train", "evaluate", "initial_weights")
    ]
    path.write_text("\n".join([*lines, *functions, "print('loaded')", ""]))
    return f"task={path}"


def test_a_task_that_names_them_needs_no_setting() -> None:
    assert _settled("task=learning_tasks.linear") == (("loss",), 3)


def test_a_task_without_classes_tells_its_accuracy_as_a_metric(tmp_path: Path) -> None:
    assert _settled(_task(tmp_path, 'METRIC_NAMES = ("mae",)')) == (("accuracy", "loss", "mae"), 0)


def test_a_matrix_that_is_too_large_is_not_asked_for(tmp_path: Path) -> None:
    many = _task(tmp_path, f"CLASS_NAMES = tuple(map(str, range({MASKED_CLASSES_MAX + 1})))")
    assert _settled(many) == (("accuracy", "loss"), 0)


def test_more_metrics_than_there_is_room_for_are_cut_and_loss_is_among_them(tmp_path: Path) -> None:
    many = _task(tmp_path, "METRIC_NAMES = tuple(map(str, range(100)))", 'CLASS_NAMES = ("a", "b")')
    metrics, classes = _settled(many)
    assert len(metrics) == MASKED_METRICS_MAX and metrics[0] == "loss" and classes == 2


def test_the_settings_have_the_last_word(tmp_path: Path) -> None:
    linear = "task=learning_tasks.linear"
    asked = 'evaluation.metrics=["mae","f1","mae"]'
    assert _settled(linear, asked) == (("mae", "f1"), 3)
    assert _settled(linear, "evaluation.classes=5") == (("loss",), 5)
    # And nobody is asked.
    lost = f"task={tmp_path / 'lost.py'}"
    assert _settled(lost, asked, "evaluation.classes=5") == (("mae", "f1"), 5)


def test_a_task_that_is_not_here_stops_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "coordinator"):
        assert _settled(f"task={tmp_path / 'lost.py'}") == (("accuracy", "loss"), 0)
    assert "set evaluation.metrics and evaluation.classes (there is no task file" in caplog.text


def test_a_task_that_has_the_last_word_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "coordinator"):
        talks = _task(tmp_path, "import atexit", "atexit.register(print, 'bye')")
        assert _settled(talks) == (("accuracy", "loss"), 0)
    assert "prints when it ends: ['bye']" in caplog.text


@pytest.mark.parametrize("off", ["evaluation.every=0", "privacy.aggregation=plain"])
def test_where_nothing_is_measured_under_masks_nobody_is_asked(tmp_path: Path, off: str) -> None:
    assert _settled(f"task={tmp_path / 'lost.py'}", off) == ((), 0)

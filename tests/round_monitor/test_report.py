"""The report at the end of a run, for people and for programs."""

import io
import json
from pathlib import Path

from rich.console import Console

from round_monitor.report import RunResult, render_result

RESULT = RunResult(
    accuracy=0.75,
    macro_f1=0.5,
    rounds=12,
    wall_s=103.4,
    bytes_up=12_345_678,
    bytes_down=2_000_000,
    invited=120,
    answered=99,
    dropped=15,
    surplus=2,
    rejected=4,
    late=3,
    broker="Mosquitto 2.0.11 (started here, port 41234)",
    seed=7,
    run="20260301-101500",
)
CLASSES = ("seated", "standing up", "walking", "turning", "sitting down")
CONFUSION = [[1234 if i == j else 10 * i + j for j in range(5)] for i in range(5)]


def _printed(width: int, result: RunResult = RESULT, confusion: bool = True) -> str:
    file = io.StringIO()
    Console(file=file, width=width, no_color=True).print(
        render_result(
            result,
            "on 987 samples of 12 devices",
            CONFUSION if confusion else None,
            CLASSES,
            {"Model": Path("runs/demo/model.safetensors")},
            "fedmqtt demo --seed 7",
        )
    )
    return file.getvalue()


def test_it_says_how_good_what_it_cost_where_it_lies_and_how_to_repeat_it() -> None:
    text = _printed(80)
    for fact in (
        "Accuracy 0.750   macro-F1 0.500   after 12 rounds in 1 min 43 s",
        "120: 99 answered, 15 dropped, 4 rejected, 2 not needed any more",
        "3 updates came after their round had closed",
        "12.3 MB sent by clients, 2.0 MB received by them",
        "Mosquitto 2.0.11 (started here, port 41234)",
        "20260301-101500, seed 7",
        "runs/demo/model.safetensors",
        "fedmqtt demo --seed 7",
    ):
        assert fact in text


def test_the_confusion_matrix_has_counts_and_row_percentages() -> None:
    rows = {row.split("  ")[1].strip(): row for row in _printed(80).splitlines() if "%" in row}
    assert list(rows) == list(CLASSES)
    # 10 + 1234 + 12 + 13 + 14 = 1283
    assert rows["standing up"].split()[2:] == [
        *("10", "1%"),
        *("1,234", "96%"),
        *("12", "1%"),
        *("13", "1%"),
        *("14", "1%"),
    ]


def test_a_narrow_terminal_gets_percentages_and_no_line_is_too_long() -> None:
    text = _printed(60)
    assert "96%" in text
    assert "1,234" not in text
    assert max(len(row) for row in text.splitlines()) <= 60


def test_classes_without_names_are_numbered() -> None:
    file = io.StringIO()
    Console(file=file, width=80).print(render_result(RESULT, "", [[1, 0], [0, 0]], (), {}, "again"))
    assert "class 1" in file.getvalue()


def test_a_run_without_an_evaluation_says_so() -> None:
    unmeasured = RunResult(**{**json.loads(RESULT.to_json()), "accuracy": None, "macro_f1": None})
    assert "No model was evaluated." in _printed(80, unmeasured, confusion=False)
    assert json.loads(unmeasured.to_json())["accuracy"] is None


def test_the_json_is_one_line_with_every_field() -> None:
    text = RESULT.to_json()
    assert "\n" not in text
    assert json.loads(text) == {
        "accuracy": 0.75,
        "macro_f1": 0.5,
        "rounds": 12,
        "wall_s": 103.4,
        "bytes_up": 12_345_678,
        "bytes_down": 2_000_000,
        "invited": 120,
        "answered": 99,
        "dropped": 15,
        "surplus": 2,
        "rejected": 4,
        "late": 3,
        "broker": "Mosquitto 2.0.11 (started here, port 41234)",
        "seed": 7,
        "run": "20260301-101500",
    }

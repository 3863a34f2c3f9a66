"""A run's rounds as JSON lines: what is appended is what is read."""

import json
from pathlib import Path

from msgspec import structs

from coordinator.persistence import history
from coordinator.rounds import MEASURED
from fedmqtt.topics import RoundId
from tests.coordinator.records import ANN, BOB, CAT, RECORD


def test_rounds_are_read_as_they_were_written_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    later = structs.replace(RECORD, round=RoundId(2), figures=None)
    history.append(path, RECORD)
    history.append(path, later)
    assert history.read(path) == [RECORD, later]


def test_each_round_is_one_line_that_any_program_can_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.append(path, RECORD)
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["rejected"] == {"cat": "has values that are not finite"}
    assert json.loads(line)["figures"]["confusion"] == [[1, 0], [0, 2]]


def test_the_compact_line_counts_and_leaves_the_matrix_out() -> None:
    line = RECORD.line()
    assert (line.invited, line.answered, line.dropped) == (3, 1, 1)
    assert (line.declined, line.rejected) == (1, 1)
    assert line.figures is not None
    assert line.figures.metrics == {"accuracy": 1.0} and line.figures.confusion is None


def test_the_log_tells_the_training_loss_of_a_round_in_which_nobody_measured_the_model() -> None:
    said = "round 1 averaged (cohort complete): 1 of 3 answered, 1 dropped (1 declined), 1 rejected"
    assert history.sentence(RECORD) == f"{said}, 1.5 s, accuracy 1.0000"
    unmeasured = structs.replace(RECORD, figures=None)
    assert history.sentence(unmeasured) == f"{said}, 1.5 s, training loss 0.2500"
    masked = structs.replace(unmeasured, train_metrics={})
    assert history.sentence(masked) == f"{said}, 1.5 s"


def test_what_a_site_measured_for_the_centre_is_no_round_without_answers() -> None:
    asked = structs.replace(RECORD, outcome="kept", reason=MEASURED, invited=[], answered=[])
    assert history.sentence(asked).startswith(
        f"round 1 evaluated (as the centre asked): measured by {len(asked.evaluated)}, "
    )


def test_an_answer_that_counts_late_is_one_and_who_declined_is_told() -> None:
    waited = history.NOTHING.plus(RECORD)
    assert waited.sentence() == (
        "1 of 3 invited answered, 1 dropped (1 declined), 1 rejected, 2 late"
    )
    # The next version of an asynchronous run takes up one of the two.
    later = structs.replace(
        RECORD,
        round=RoundId(2),
        invited=[ANN, CAT],
        answered=[ANN, CAT],
        dropped=[],
        declined={},
        rejected={},
        late_updates=0,
        late_counted=[(BOB, RoundId(1))],
    )
    both = waited.plus(later)
    assert (both.answered, both.late_counted, both.heard, both.late) == (3, 1, 4, 2)
    assert both.sentence() == (
        "4 of 5 invited answered (1 when their round had closed), 1 dropped (1 declined),"
        " 1 rejected, 1 late"
    )

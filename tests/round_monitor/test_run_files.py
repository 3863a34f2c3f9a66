"""A run's folder, read: time, bytes, reasons, settings; and what is said of one that is damaged."""

import json
from pathlib import Path

import msgspec
import pytest

from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, RoundId
from fleet_sim.lab_page import ClientLine, LabPage, RoundMark
from round_monitor.run_files import LabClient, ReportError, Run, read_runs
from tests.round_monitor.run_folders import line, write_run


def _read(*folders: Path) -> list[Run]:
    return read_runs(folders, lambda share: None)


def test_time_begins_when_the_first_round_opened(tmp_path: Path) -> None:
    run = _read(write_run(tmp_path, [line(1, 1000, duration_s=10), line(2, 1060)]))[0]
    assert [one.at_s for one in run.rounds] == [10, 70]


def test_a_clock_that_was_set_back_does_not_turn_time_back(tmp_path: Path) -> None:
    lines = [line(1, 1000, duration_s=10), line(2, 500), line(3, 1060)]
    assert [one.at_s for one in _read(write_run(tmp_path, lines))[0].rounds] == [10, 10, 70]


def test_without_moments_durations_are_added_up(tmp_path: Path) -> None:
    lines = [line(1, closed="?", duration_s=3), line(2, closed="?", duration_s=4)]
    assert [one.at_s for one in _read(write_run(tmp_path, lines))[0].rounds] == [3, 7]


def test_bytes_are_counted_on_when_the_coordinator_began_again(tmp_path: Path) -> None:
    received = [100, 300, 0, 50]
    lines = [line(n, bytes_received=r, bytes_published=0) for n, r in enumerate(received, 1)]
    moved = [one.bytes_moved for one in _read(write_run(tmp_path, lines))[0].rounds]
    assert moved == [100, 300, 300, 350]


def test_the_lab_knows_its_own_time_and_bytes(tmp_path: Path) -> None:
    marks = [{"round": 1, "closed_s": 7.5, "bytes_up": 10, "bytes_down": 20}]
    lab = {"mode": "live", "rounds": marks, "a_key_of_tomorrow": 1}
    run = _read(write_run(tmp_path, [line(1, 100)], lab))[0]
    assert (run.rounds[0].at_s, run.rounds[0].bytes_moved) == (7.5, 30)
    assert not run.is_virtual


def test_durations_of_a_live_run_are_those_of_the_fleet(tmp_path: Path) -> None:
    write_run(tmp_path, [line(1, duration_s=2.0)], lab={"mode": "live", "speed": 30.0})
    (run,) = read_runs([tmp_path], lambda fraction: None)
    assert run.rounds[0].duration_s == 60.0


def test_what_a_coordinator_and_the_lab_write_is_what_is_read(tmp_path: Path) -> None:
    record = Record(
        round=RoundId(1),
        closed="2026-03-02T00:00:00+00:00",
        outcome="averaged",
        reason="cohort complete",
        base="00ff",
        invited=[ClientId("ann"), ClientId("bob"), ClientId("cat"), ClientId("dan")],
        answered=[ClientId("ann")],
        dropped=[ClientId("bob")],
        surplus=[ClientId("cat")],
        declined={ClientId("bob"): "on battery"},
        rejected={ClientId("dan"): "stale"},
        evaluated=[],
        late_updates=2,
        late_counted=[(ClientId("eve"), RoundId(0))],
        duration_s=4.5,
        samples=3,
        train_metrics={"loss": 0.5},
        figures=Figures(clients=1, samples=2, metrics={"accuracy": 0.75}),
        bytes_received=30,
        bytes_published=4,
    )
    lab = LabPage(
        mode="virtual",
        title="ward",
        seed=7,
        clients=[
            ClientLine(client="ann", samples=5, label_counts=[2, 3], rank=0.5, online_share=0.25)
        ],
        rounds=[RoundMark(round=1, closed_s=9.5, bytes_up=70, bytes_down=80)],
        trace="abc",
        weather={"link.loss": "0.1"},
        repeat="fedmqtt simulate fleet.toml",
    )
    history.append(tmp_path / "history.jsonl", record)
    real = _read(tmp_path)[0].rounds[0]
    assert (real.at_s, real.bytes_moved, real.duration_s) == (4.5, 34, 4.5)
    (tmp_path / "lab.json").write_bytes(msgspec.json.encode(lab))
    run = _read(tmp_path)[0]
    told = run.rounds[0]
    assert (told.at_s, told.bytes_moved) == (9.5, 150)
    assert (told.invited, told.answered, told.dropped, told.surplus, told.rejected) == (
        4,
        1,
        1,
        1,
        1,
    )
    assert (told.late, told.late_counted) == (2, 1)
    assert (told.figures, told.training) == ({"accuracy": 0.75}, {"loss": 0.5})
    assert dict(run.tallies.why_declined) == {"on battery": 1}
    assert run.lab is not None
    assert run.lab.clients == [LabClient("ann", 5, [2, 3], 0.25, None)]
    assert (run.lab.seed, run.lab.trace, run.lab.weather) == (7, "abc", {"link.loss": "0.1"})


def test_reasons_that_differ_in_numbers_or_digests_only_are_one(tmp_path: Path) -> None:
    rejected = {
        "ann": "a norm of 12.5 is above 10",
        "bob": "a norm of 3e+20 is above 10",
        "cat": "for model 0a509efc4e8d, not 27d0e379d861",
    }
    run = _read(write_run(tmp_path, [line(1, rejected=rejected)]))[0]
    assert dict(run.tallies.why_rejected) == {
        "a norm of … is above …": 2,
        "for model …, not …": 1,
    }


def test_metrics_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    figures = {
        "clients": 1,
        "samples": 1,
        "metrics": {"accuracy": None, "auc": -1.7e308, "loss": 2.0},
    }
    run = _read(write_run(tmp_path, [line(1, figures=figures, train_metrics={"loss": None})]))[0]
    assert (run.rounds[0].figures, run.rounds[0].training) == ({"loss": 2.0}, {})


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("mqtts://ann:hunter2@broker:8883", "mqtts://ann:***@broker:8883"),
        ("mqtt://ann:a:b@c@broker", "mqtt://ann:***@broker"),
        ("mqtt://broker:1883", "mqtt://broker:1883"),
    ],
)
def test_passwords_are_struck_out_of_settings(tmp_path: Path, written: str, shown: str) -> None:
    folder = write_run(tmp_path, [line(1)], federation=f'url = "{written}"\n')
    assert _read(folder)[0].settings == {"federation.toml": f'url = "{shown}"\n'}


def test_a_run_that_is_named_twice_is_read_once_in_its_place(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / name, [line(1)]) for name in ("first", "second"))
    again = first / ".." / "first"
    assert [run.folder.resolve() for run in _read(first, second, again)] == [first, second]


def test_progress_goes_up_to_all_over_several_runs(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, [line(1), line(2)]) for name in ("a", "b")]
    told: list[float] = []
    read_runs(folders, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert told[1] == 0.5


def _refused(folder: Path) -> str:
    with pytest.raises(ReportError) as refused:
        _read(folder)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert _refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"


def test_a_folder_of_runs_names_one_of_them(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "ward-7", [line(1)])
    assert _refused(tmp_path / "runs").endswith(
        f"no history.jsonl in it; name one of the runs in it, such as {tmp_path}/runs/ward-7"
    )


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    assert _refused(tmp_path) == f"{tmp_path}: no history.jsonl in it; it is no run's folder"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_run_without_a_closed_round_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "history.jsonl").write_text(content)
    assert _refused(tmp_path).endswith("history.jsonl: no round has been closed in this run")


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (b'{"round": 2, "inv', "malformed"),
        (b'{"round": "two"}', "Expected `int`"),
        (b"[]", "Expected `object`"),
        (b'{"round": 2, "reason": "\xff"}', "utf-8"),
    ],
)
def test_a_damaged_line_is_named_with_its_file(tmp_path: Path, damaged: bytes, why: str) -> None:
    damaged_file = tmp_path / "history.jsonl"
    damaged_file.write_bytes(json.dumps(line(1)).encode() + b"\n\n" + damaged + b"\n")
    sentence = _refused(tmp_path)
    assert sentence.startswith(f"{damaged_file}, line 3: damaged (")
    assert why in sentence


def test_a_last_line_that_was_never_finished_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(json.dumps(line(1)).encode() + b"\n" + json.dumps(line(2)).encode()[:40])
    (run,) = read_runs([tmp_path], lambda share: None)
    assert [one.number for one in run.rounds] == [1]
    assert f"{path}, line 2: damaged (" in caplog.text
    assert "the last line is left out" in caplog.text


def test_a_damaged_page_of_the_lab_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [line(1)])
    (folder / "lab.json").write_text('{"mode": "dreamt"}')
    sentence = _refused(folder)
    assert sentence.startswith(f"{folder / 'lab.json'}: damaged (")
    assert "dreamt" in sentence


@pytest.mark.parametrize("name", ["history.jsonl", "lab.json", "federation.toml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path, [line(1)])
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    assert _refused(folder) == f"{folder / name}: Is a directory"

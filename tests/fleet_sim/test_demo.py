"""`fedmqtt demo` as a newcomer meets it: it ends well, tells what it did, and cleans up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from tests.patience import ENDS_WITHIN_S, WITHIN_S
from tests.programs import Program, running, wait_until
from tests.terminals import FROM_OTHER_SCREEN, TO_OTHER_SCREEN, on_terminal, read_until

pytestmark = pytest.mark.broker

KEYS = (
    "accuracy macro_f1 rounds wall_s bytes_up bytes_down invited answered dropped surplus"
    " rejected late broker seed run"
)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demonstration makes its temporary files, and nobody else."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def demo(folder: Path, *words: str) -> tuple[str, ...]:
    return ("fedmqtt", "demo", "--runs", str(folder / "runs"), "--json", *words)


def left_behind(scratch: Path) -> list[str]:
    """What still runs of all that was started with this folder for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("TMPDIR") == str(scratch)
            if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@contextmanager
def watched(tmp_path: Path, scratch: Path, *words: str) -> Iterator[Program]:
    """A demonstration that must leave neither a process nor a temporary file."""
    with running(tmp_path, *demo(tmp_path, *words)) as program:
        yield program
    wait_until(lambda: not left_behind(scratch))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("broker", ["mosquitto", "embedded"])
def test_it_ends_with_a_model_a_picture_and_one_line_for_programs(
    tmp_path: Path, scratch: Path, broker: str
) -> None:
    if broker == "mosquitto" and find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed here")
    with watched(tmp_path, scratch, "--rounds", "3", "--broker", broker) as program:
        assert program.wait() == 0, program.log
    result = json.loads(program.said.splitlines()[-1])
    assert list(result) == KEYS.split()
    assert (result["rounds"], result["seed"], result["rejected"]) == (3, 1, 0)
    heard_or_not = [result[key] for key in ("answered", "dropped", "surplus", "rejected")]
    assert result["invited"] == sum(heard_or_not)
    assert 0.5 < result["accuracy"] <= 1
    folder = Path(result["run"])
    records = history.read(folder / "history.jsonl")
    assert [one.outcome for one in records] == ["averaged"] * 3 + ["evaluated"]
    # Of 12, all who have been there so far: a third is away at first, and returns one by one.
    assert 8 <= len(records[-1].evaluated) <= 12
    assert load_file(folder / "model.safetensors")
    assert (folder / "rounds.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "result.json").read_text()) == result
    # At least one invited device in ten vanished in the middle of its work.
    clients = json.loads((folder / "clients.json").read_text())
    assert clients["vanished"] >= 3 and clients["bytes_up"] == result["bytes_up"]
    assert "Traceback" not in (folder / "clients.log").read_text()


def test_ctrl_c_in_the_middle_ends_everything_with_130(tmp_path: Path, scratch: Path) -> None:
    with watched(tmp_path, scratch, "--rounds", "50") as program:
        wait_until(lambda: "round 1 opened" in program.said or program.process.poll() is not None)
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.log
    assert "stopped; what there is lies in " in program.log
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "model.safetensors").exists()


def test_ctrl_c_while_it_prepares_ends_it_as_well(tmp_path: Path, scratch: Path) -> None:
    with watched(tmp_path, scratch, "--rounds", "50") as program:
        prepares = tmp_path / "runs"
        wait_until(lambda: prepares.exists() or program.process.poll() is not None)
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.log


@pytest.mark.parametrize(
    ("broker", "complaint"),
    [
        ("mqtt://127.0.0.1:1", "No broker answers at mqtt://127.0.0.1:1"),
        ("rabbit", "'rabbit' is no broker: expected auto, mosquitto, embedded, or a URL"),
    ],
)
def test_without_a_broker_it_says_so_in_one_sentence(
    tmp_path: Path, broker: str, complaint: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *demo(tmp_path, "--broker", broker)],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"fedmqtt demo: {complaint}") and ended.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seed", "-1"], ["--rounds", "many"]])
def test_impossible_wishes_are_refused(tmp_path: Path, words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *demo(tmp_path, *words)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and words[0] in ended.stderr


def test_on_a_terminal_it_is_watched_and_q_ends_it(tmp_path: Path, scratch: Path) -> None:
    command = [sys.executable, "-m", "fedmqtt", "demo", "--runs", str(tmp_path / "runs")]
    with on_terminal(command) as (process, terminal):
        said = read_until(terminal, lambda text: "invited" in text and "Quit" in text)
        os.write(terminal, b"?")
        said += read_until(terminal, lambda text: "end the demonstration" in text)
        os.write(terminal, b"q")
        said += read_until(terminal, lambda text: "Quit" in text)
        os.write(terminal, b"q")
        said += read_until(terminal, lambda text: "stopped; what there is lies in" in text)
        assert process.wait(WITHIN_S) == 130
    assert said.index(TO_OTHER_SCREEN) < said.index(FROM_OTHER_SCREEN) < said.index("stopped; ")
    assert "Traceback" not in said
    wait_until(lambda: not left_behind(scratch))
    assert list(scratch.iterdir()) == []


def test_on_a_terminal_its_end_is_the_screens_end(tmp_path: Path, scratch: Path) -> None:
    words = ("--rounds", "1", "--runs", str(tmp_path / "runs"))
    with on_terminal([sys.executable, "-m", "fedmqtt", "demo", *words]) as (process, terminal):
        said = read_until(terminal, lambda text: "fedmqtt demo --rounds 1" in text)
        assert process.wait(WITHIN_S) == 0
    assert said.index(FROM_OTHER_SCREEN) < said.index("fedmqtt demo --rounds 1")

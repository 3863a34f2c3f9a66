"""`fedmqtt simulate` as a person meets it: what it prints, refuses, keeps when it is stopped."""

import argparse
import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from coordinator.persistence import history
from fleet_sim import fleet as fleets
from fleet_sim import lab_options, simulate_command, split
from tests.fleet_sim.lab_fleets import stormy
from tests.patience import ENDS_WITHIN_S
from tests.programs import running, wait_until

ROOT = Path(__file__).parent.parent.parent
WORDS = (sys.executable, "-m", "fedmqtt", "simulate")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


_PRESENCE = r"\d+ clients, online \d+% of \d+ h on average \(\d+% to \d+%\)"


def simulate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*WORDS, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


def said_at_once(*words: str) -> int:
    """Its exit code; in this process, as importing torch anew takes seconds."""
    parser = argparse.ArgumentParser(prog="fedmqtt simulate")
    simulate_command.add_arguments(parser)
    return simulate_command.run(parser.parse_args(words))


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What it says, in one sentence, to what cannot be; nothing of it is left."""
    monkeypatch.chdir(tmp_path)

    def sentence(*words: str) -> str:
        assert said_at_once(*words) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.count("\n") == 1 and error.startswith("fedmqtt simulate: ")
        assert not any((tmp_path / "runs").glob("*"))
        return error.removeprefix("fedmqtt simulate: ").strip()

    return sentence


def on_a_terminal(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and all that a screen of 80 columns was sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        [*WORDS, *words], stdout=theirs, stderr=theirs, stdin=theirs, cwd=folder, env=environment
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError as end:
                # How Linux says that nobody has the other end open any more.
                assert end.errno == errno.EIO
                break
            if not piece:
                break
            said += piece
        os.close(ours)
        return process.wait(100), said.decode()


def test_help_tells_what_it_is_for_and_what_can_be_set(tmp_path: Path) -> None:
    ended = simulate(tmp_path, "--help")
    assert ended.returncode == 0
    assert "before you own them" in ended.stdout
    for word in (
        "--preset",
        "--set",
        "--seed",
        "--processes",
        "--alone",
        "--runs",
        *fleets.presets(),
    ):
        assert word in ended.stdout


# What cannot be


def test_neither_a_file_nor_a_preset_is_refused_with_the_presets(
    refused: Callable[..., str],
) -> None:
    said = refused()
    assert said == "give a fleet's file, or --preset with one of: calm, commuters, phones, pis"


def test_a_file_and_a_preset_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    stormy(tmp_path)
    assert "give a fleet's file, or --preset" in refused("fleet.toml", "--preset", "calm")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--preset sunny", "--preset: there is no 'sunny'; choose one of: calm, commuters"),
        ("none.toml", "none.toml: no such file"),
        ("fleet.toml --set connectivity.kind=tide", "connectivity.kind: there is no 'tide'"),
        ("fleet.toml --set data.split=pie", "data.split: there is no 'pie'; choose one of: "),
        ("fleet.toml --set data.split=owners", "nobody"),
        (
            "fleet.toml --set data.split=owners --set clients=0 --no-training"
            " --set connectivity.follows_data=0",
            "clients: say how",
        ),
        ("fleet.toml --set clients=1", "clients: with 1 of them no round could ever make a model"),
        ("fleet.toml --set clients=500", "500"),
        ("fleet.toml --set faults.polite=0.9", "faults.half_open: 0.3 of the departures"),
        ("fleet.toml --set federation.task=no_such_task", "no_such_task"),
        ("fleet.toml --set federation.initial_model=gone", "gone"),
        ("fleet.toml --set link.width=3", "link"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, refused: Callable[..., str], words: str, sentence: str
) -> None:
    stormy(tmp_path)
    assert sentence in refused(*words.split())


@pytest.mark.parametrize("words", ["", "--set data.path=photos"])
def test_a_missing_data_file_is_named_with_its_place_and_what_to_do(
    tmp_path: Path, refused: Callable[..., str], words: str
) -> None:
    stormy(tmp_path)
    (tmp_path / "photos").mkdir()
    said = refused(
        "fleet.toml", "--set", "federation.task=learning_tasks.mnist_2nn", *words.split()
    )
    folder = tmp_path / "photos" if words else tmp_path
    assert said == (
        f"fleet.toml: data.path: there is no {folder}/train-images-idx3-ubyte.gz: give the folder"
        " with the four files of MNIST, train-images-idx3-ubyte.gz and so on; choose another folder"
        " with --set data.path=FOLDER"
    )


@pytest.mark.parametrize("count", ["0", "many"])
def test_an_impossible_count_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        said_at_once("--preset", "calm", "--processes", count)
    assert ended.value.code == 2
    assert f"{count!r} is no count" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_not_written_to(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    stormy(tmp_path)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "diary.txt").write_text("mine")
    (tmp_path / "a-file").write_text("")
    for place in ("mine", "a-file", "."):
        said = refused("fleet.toml", "--run", place)
        assert said == f"--run: {place} is there, and not empty; choose another folder"
    # Neither where the fleet turns out to be impossible when its data is shared out.
    refused("fleet.toml", "--run", "mine", "--set", "clients=500")
    assert (tmp_path / "mine" / "data" / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--live --statistics", "--statistics is for virtual time: leave it out, or --live"),
        (
            "--statistics --alone",
            "--statistics trains nobody, and reads all data: leave out --no-training, --ray and"
            " --alone",
        ),
        ("--live --no-training", "--no-training is for virtual time: leave it out, or --live"),
        ("--live --alone", "--alone is for virtual time: leave it out, or --live"),
        ("--live --ray local", "--ray is for virtual time: leave it out, or --live"),
        ("--no-training --alone", "--no-training trains nobody: leave out --ray and --alone"),
        (
            "--live --set faults.polite=0.1",
            "faults.polite: live, clients that leave say no goodbye: add --set faults.polite=0",
        ),
        ("--speed 3", "--speed is for a run at a real broker: add --live"),
        ("--broker embedded", "--broker is for a run at a real broker: add --live"),
        (
            "--no-training --set connectivity.follows_data=0.5",
            "--no-training: without data nobody's weather can follow it: add"
            " --set connectivity.follows_data=0",
        ),
    ],
)
def test_options_that_would_do_nothing_together_are_refused(
    tmp_path: Path, refused: Callable[..., str], words: str, sentence: str
) -> None:
    stormy(tmp_path)
    calm = "connectivity.follows_data=0"
    assert refused("fleet.toml", "--set", calm, *words.split()) == sentence


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            "--live",
            "live clients have no keys to sign with, and no keyholders run beside them: leave out"
            " --live, as in virtual time the same numbers are made without keys; or add"
            " --set federation.privacy.aggregation=plain",
        ),
        (
            "--statistics",
            "a run that describes clients' data asks each client for figures that can be read: give"
            ' it a federation.toml with privacy.aggregation = "plain"',
        ),
    ],
)
def test_what_takes_more_than_masks_is_refused(
    tmp_path: Path, refused: Callable[..., str], option: str, sentence: str
) -> None:
    stormy(tmp_path)
    sets = ("connectivity.follows_data=0", "faults.polite=0", "federation.late.policy=discard")
    masked = ("privacy.aggregation=keyholders", "privacy.floor=2", "rounds.quorum=2")
    chosen = [*sets, *(f"federation.{one}" for one in masked)]
    words = [word for one in chosen for word in ("--set", one)]
    said = refused("fleet.toml", *words, option)
    assert said == f"privacy.aggregation is 'keyholders': {sentence}"


def test_how_answers_are_masked_is_among_the_options_where_they_are(tmp_path: Path) -> None:
    def names(aggregation: str) -> set[str]:
        fleet = fleets.read(
            fleets.preset("calm"),
            [
                *(f"federation.privacy.aggregation={aggregation}", "federation.privacy.floor=2"),
                "federation.rounds.quorum=2",
            ],
        )
        return {one.name for one in lab_options.options(fleet.config)}

    masked = names("keyholders") - names("plain")
    assert {"federation.privacy.value_bits", "masking.opening_s"} <= masked
    assert "federation.privacy.keyholder_timeout_s" not in masked


# Statistics


def test_it_describes_the_fleet_s_data_and_trains_nobody(tmp_path: Path) -> None:
    of = stormy(tmp_path)
    # The questions about all the features that a task may have are larger than its little model.
    words = ("fleet.toml", "--set", "link.down.kbps=0", "--statistics")
    ended = simulate(tmp_path, *words, "--run", "run", "--processes", "1")
    assert ended.returncode == 0, ended.stderr
    assert f"repeat with: fedmqtt simulate {' '.join(words)}\n" in ended.stderr
    assert "findings: run/statistics.json\n" in ended.stderr
    found = json.loads((tmp_path / "run" / "statistics.json").read_text())
    assert len(found["answered"]) == of.federation.statistics.rounds
    last = history.read(tmp_path / "run" / "history.jsonl")[-1]
    held = {one.client: one for one in split.holdings(tmp_path / "run" / "data")}
    answered = [held[client] for client in last.answered]
    assert found["clients"] == len(answered) >= of.federation.statistics.clients_min
    counts: Counter[str] = Counter()
    for one in answered:
        counts.update(one.label_counts)
    assert found["features"]["class"]["counts"] == counts
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_where_too_few_clients_answer_nothing_is_told(tmp_path: Path) -> None:
    stormy(tmp_path)
    words = ("--statistics", "--run", "run", "--processes", "1", "--set", "hours_max=0.001")
    ended = simulate(tmp_path, "fleet.toml", *words)
    assert ended.returncode == 1
    assert "in no round 3 clients answered: nothing is told of fewer" in ended.stderr
    assert not (tmp_path / "run" / "statistics.json").exists()


# What it says


def test_where_nobody_watches_it_prints_plain_lines_and_one_of_json_at_the_end(
    tmp_path: Path,
) -> None:
    stormy(tmp_path)
    ended = simulate(tmp_path, "fleet.toml", "--json", "--processes", "1")
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    result = json.loads(line)
    assert "\x1b" not in ended.stderr and "\r" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert lines[0] == "fleet.toml: seed 1"
    assert "  link: latency_s=0.1 jitter_s=0.5 loss=0.05" in ended.stderr
    assert sum(one.startswith("round ") for one in lines) == result["rounds"] + 1
    assert "repeat with: fedmqtt simulate fleet.toml" in lines
    assert any(re.fullmatch(_PRESENCE, line) for line in lines)
    assert lines[-2] == f"trace {result['trace']}"
    assert lines[-1] == f"see it: fedmqtt report {result['run']}"
    assert result["run"] == "runs/lab-seed-1-1"
    # The next run has a folder of its own, and its command repeats the first.
    again = simulate(tmp_path, "fleet.toml", "--json", "--seed", "1")
    assert json.loads(again.stdout)["run"] == "runs/lab-seed-1-2"
    assert json.loads(again.stdout)["trace"] == result["trace"]


def test_colour_that_jupyter_asks_for_makes_no_bar_where_nobody_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stormy(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert said_at_once("fleet.toml", "--no-training", "--set", "connectivity.follows_data=0") == 0
    said = capsys.readouterr().err
    assert "all rounds done" in said
    assert "\x1b" not in said and "━" not in said


def test_on_a_terminal_there_is_a_bar_and_nothing_wider_than_the_screen(tmp_path: Path) -> None:
    stormy(tmp_path)
    code, said = on_a_terminal(tmp_path, "fleet.toml", "--processes", "1")
    assert code == 0, said
    assert "of the fleet's time" in said and "━" in said
    plain = _ESCAPES.sub("", said)
    listing = plain[plain.index("federation ") : plain.index("repeat with:")]
    lines = listing.splitlines()
    assert all(len(line) <= 80 for line in lines)
    # Every option, and still to be taken in at a glance. How lines break depends on the folder.
    assert len(lines) < 60
    assert "battery.training_h=0.5" in listing and "reboot_s=60.0" in listing
    assert "all rounds done: 6 rounds" in plain


# Stopped


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_term_keep_what_is_there_and_say_where(
    tmp_path: Path, stop: signal.Signals
) -> None:
    stormy(tmp_path)
    file, run = tmp_path / "fleet.toml", tmp_path / "run"
    words = ("fedmqtt", "simulate", str(file), "--run", str(run), "--processes", "2")
    more = ("--set", "federation.rounds.count=100000", "--set", "hours_max=1000")
    with running(tmp_path, *words, *more) as program:
        program.wait_for("round 1 ")
        program.process.send_signal(stop)
        assert program.wait() == 130, program.log
    assert "Traceback" not in program.log
    assert f"stopped; what there is lies in {run}" in program.log
    assert len(history.read(run / "history.jsonl")) >= 1
    assert load_file(run / "model.safetensors") and (run / "lab.json").exists()


def test_ctrl_c_while_it_prepares_ends_it_as_well(tmp_path: Path) -> None:
    words = ("fedmqtt", "simulate", "--preset", "calm", "--run", str(tmp_path / "run"))
    with running(tmp_path, *words) as program:
        wait_until(lambda: (tmp_path / "run").exists() or program.process.poll() is not None)
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.log
    assert "Traceback" not in program.log


# The fleets that come along


@pytest.mark.parametrize("preset", fleets.presets())
def test_every_preset_runs_to_its_end(tmp_path: Path, preset: str) -> None:
    words = ("--set", "federation.rounds.count=2", "--processes", "1", "--json")
    ended = simulate(tmp_path, "--preset", preset, *words)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["finished"] and result["rounds"] == 2 and result["answered"] >= 4
    assert 0.3 < result["metrics"]["accuracy"] <= 1
    records = history.read(tmp_path / result["run"] / "history.jsonl")
    assert [one.outcome for one in records] == ["averaged", "averaged", "evaluated"]


def test_without_training_it_shows_who_takes_part(tmp_path: Path) -> None:
    words = ("--no-training", "--set", "clients=200", "--set", "federation.rounds.count=3")
    ended = simulate(tmp_path, "--preset", "commuters", "--json", *words)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["finished"] and result["metrics"] == {}
    assert not (tmp_path / result["run"] / "model.safetensors").exists()


def test_a_run_of_years_tells_by_how_much_of_them_it_counts_who_is_online(tmp_path: Path) -> None:
    # Looked at in full this is half a million times online of each client, and a minute of silence.
    words = ("--no-training", "--set", "clients=200", "--set", "federation.rounds.count=1")
    ended = simulate(tmp_path, "--preset", "commuters", "--set", "hours_max=100000", *words)
    assert ended.returncode == 0, ended.stderr
    assert re.search(
        r"200 clients, online \d+% of 100000 h on average \(\d+% to \d+%\), by the first 1000 times"
        " each\n",
        ended.stderr,
    )


def test_every_client_of_a_large_fleet_is_listed_and_some_are_watched(tmp_path: Path) -> None:
    words = ("--no-training", "--set", "clients=30000", "--set", "federation.rounds.count=1")
    ended = simulate(tmp_path, "--preset", "commuters", "--run", "large", *words)
    assert ended.returncode == 0, ended.stderr
    clients = json.loads((tmp_path / "large" / "lab.json").read_text())["clients"]
    assert len({one["client"] for one in clients}) == 30_000
    watched = [n for n, one in enumerate(clients) if one["online_share"] is not None]
    # Evenly: who comes first may be first for a reason.
    assert watched == list(range(0, 30_000, 2))
    assert all(one["samples"] is None for one in clients)


def test_no_password_is_left_in_what_is_shown_around(tmp_path: Path) -> None:
    url = "federation.broker.url=mqtt://boss:s3cret@broker.example:1883"
    words = ("--no-training", "--set", "clients=20", "--set", "federation.rounds.count=1")
    ended = simulate(tmp_path, "--preset", "commuters", "--run", "mine", *words, "--set", url)
    assert ended.returncode == 0, ended.stderr
    assert "mqtt://boss:***@broker.example" in ended.stderr
    assert "s3cret" not in ended.stderr + ended.stdout
    for path in (tmp_path / "mine").rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path


def test_another_seed_is_another_run_in_everything(tmp_path: Path) -> None:
    words = ("--preset", "calm", "--set", "federation.rounds.count=1")
    found = []
    for name, seed in (("a", ("--seed", "1")), ("b", ("--seed", "2")), ("c", ("--seed", "1"))):
        ended = simulate(tmp_path, *words, *seed, "--run", name)
        assert ended.returncode == 0, ended.stderr
        first = json.loads((tmp_path / name / "history.jsonl").read_text().splitlines()[0])
        model = (tmp_path / name / "initial_model.safetensors").read_bytes()
        found.append((sorted(first["invited"]), model))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]


def test_a_run_that_makes_no_model_says_why_and_fails(tmp_path: Path) -> None:
    words = ("--preset", "calm", "--set", "federation.rounds.count=1")
    dead = simulate(tmp_path, *words, "--set", "faults.trainer_crashes=1")
    assert dead.returncode == 1
    assert "no round made a model: " in dead.stderr
    assert "times a client said, or was told: the trainer did not survive" in dead.stderr
    never = simulate(
        tmp_path,
        *words,
        "--set",
        "connectivity.kind=scripted",
        "--set",
        "connectivity.settings.events=[{at = 0}]",
        "--set",
        "hours_max=1",
    )
    assert never.returncode == 1
    assert "no round made a model: never were so many clients there and willing" in never.stderr
    assert "see it:" not in never.stderr


def test_a_broker_that_is_not_there_leaves_the_folder_free(tmp_path: Path) -> None:
    words = ("--live", "--broker", "mqtt://127.0.0.1:1", "--preset", "calm", "--run", "mine")
    for _ in range(2):
        ended = simulate(tmp_path, *words)
        assert ended.returncode == 1
        assert "No broker answers at mqtt://127.0.0.1:1: Connection refused." in ended.stderr
    assert not (tmp_path / "mine").exists()

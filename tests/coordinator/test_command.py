"""`fedmqtt coordinator` as people meet it: one sentence for each mistake, and an orderly end."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from broker_config import kit
from broker_config.local_broker import RunningBroker
from coordinator.config import FederationConfig
from coordinator.persistence import history
from fedmqtt import settings
from tests.broker_config.kit_broker import FEDERATION, plan
from tests.coordinator.guests import Room, update
from tests.gated import BEFORE_TRAINING
from tests.patience import WITHIN_S
from tests.programs import running, wait_until

COMMAND = [sys.executable, "-m", "fedmqtt", "coordinator"]

GOOD = 'name = "ward-7"\ntask = "learning_tasks.linear"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "federation.toml"
    path.write_text(text)
    return path


def run(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(config), *words],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "words", "complaint"),
    [
        ("name = ", [], "federation.toml: Invalid value"),
        ('task = "learning_tasks.linear"', [], "missing key name"),
        (GOOD + "[rounds]\nquorom = 3", [], "unknown key rounds.quorom; choose from: count"),
        (GOOD, ["--set", "rounds.quorum=11"], "rounds.quorum is 11, more than rounds.cohort = 10"),
        (GOOD, ["--set", "runs="], "runs: expected"),
        (
            GOOD,
            ["--set", "broker.tls_ca=ca.pem"],
            "broker.tls_ca is given, and mqtt://localhost:1883 is not encrypted",
        ),
        (GOOD, ["--set", "rounds.over_selection=0.5"], "rounds.over_selection: expected"),
        (GOOD, ["--set", "rounds.count"], "expected key=value"),
        (
            GOOD,
            ["--set", "aggregation=best"],
            "aggregation: there is no 'best'; choose one of: bulyan",
        ),
        (
            GOOD,
            ["--set", "selection=first"],
            "selection: there is no 'first'; choose one of: by_speed, oort, power_of_choice,"
            " round_robin, sortition, stratified, uniform",
        ),
        (GOOD, ["--set", "codec=gzip"], "codec: there is no 'gzip'; choose one of: bfloat16,"),
        (GOOD, ["--set", "aggregation_settings.speed=2"], "unknown key speed; choose from: rate"),
        (GOOD, ["--broker", "localhost"], "expected mqtt://host[:port]"),
        (GOOD, ["--set", "task=no_such_task"], "no initial model: there is no module no_such_task"),
        (GOOD, ["--set", "task=none.py"], "no initial model: there is no task file none.py"),
        (
            GOOD,
            ["--set", "limits.change_max=1e9", "--set", "limits.samples_max=268435456"],
            "do not fit 64 bits; lower limits.change_max or limits.samples_max",
        ),
        (
            GOOD,
            [
                *("--set", "aggregation=fedau", "--set", "aggregation_settings.interval_max=10000"),
                *("--set", "limits.change_max=1e9", "--set", "rounds.cohort=10000"),
            ],
            "lower limits.change_max or aggregation_settings.interval_max",
        ),
        (GOOD, ["--set", "initial_model=gone.safetensors"], "gone.safetensors: no such file"),
    ],
)
def test_a_mistake_is_one_clear_sentence_and_exit_code_2(
    tmp_path: Path, text: str, words: list[str], complaint: str
) -> None:
    ended = run(write(tmp_path, text), "--run", str(tmp_path / "run"), *words)
    assert complaint in ended.stderr
    assert ended.stderr.startswith("fedmqtt coordinator: ") and ended.stderr.count("\n") == 1
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = run(tmp_path / "none.toml")
    assert ended.returncode == 2 and "none.toml: no such file" in ended.stderr


def test_an_initial_model_of_another_type_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "start.safetensors"
    save_file({"weight": np.zeros(3, np.float64)}, model)
    config = write(tmp_path, GOOD)
    ended = run(config, "--run", str(tmp_path / "run"), "--set", f"initial_model={model}")
    assert ended.returncode == 2 and "start.safetensors: weight is F64, not F32" in ended.stderr


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("federation.toml", "a finished run, or settings"),
        ("history.jsonl", "a run, and no ledger.db that knows of it"),
    ],
)
def test_a_folder_that_holds_an_earlier_run_is_not_written_over(
    tmp_path: Path, name: str, holds: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).write_text("")
    ended = run(write(tmp_path, GOOD), "--run", str(folder))
    assert ended.returncode == 2
    assert f"{folder} holds {holds}" in ended.stderr
    assert "choose another folder with --run" in ended.stderr
    assert list(folder.iterdir()) == [folder / name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run(write(tmp_path, GOOD), "--run", str(tmp_path / "file" / "run"))
    assert ended.returncode == 2 and "run folder " in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_settings_in_force_are_printed_and_can_be_read_again(tmp_path: Path) -> None:
    config = write(tmp_path, GOOD + "[rounds]\nquorum = 3\n")
    ended = run(config, "--print-config", "--set", "rounds.count=7", "--broker", "mqtt://pi")
    assert ended.returncode == 0
    printed = settings.read(write(tmp_path, ended.stdout), [], FederationConfig)
    assert (printed.rounds.quorum, printed.rounds.count) == (3, 7)
    assert printed.broker.url == "mqtt://pi"
    assert list(tmp_path.iterdir()) == [tmp_path / "federation.toml"]


def test_the_settings_in_force_are_printed_without_the_password(tmp_path: Path) -> None:
    config = write(tmp_path, GOOD)
    ended = run(config, "--print-config", "--broker", 'mqtt://ann:hun"ter2@pi')
    assert ended.returncode == 0 and "ter2" not in ended.stdout
    printed = settings.read(write(tmp_path, ended.stdout), [], FederationConfig)
    assert printed.broker.url == "mqtt://ann@pi:1883"


def test_credentials_are_read_once(tmp_path: Path) -> None:
    """What is read again may be another file by then. A pipe gives what is in it once."""
    folder = tmp_path / "kit"
    kit.create(folder, plan(folder))
    pipe = tmp_path / "coordinator.toml"
    os.mkfifo(pipe, mode=0o600)
    text = (folder / "accounts" / "coordinator.toml").read_text()
    threading.Thread(target=pipe.write_text, args=(text,), daemon=True).start()
    config = write(tmp_path, GOOD.replace("ward-7", FEDERATION))
    # The last mistake that is noticed before a run begins.
    ended = run(config, "--credentials", str(pipe), "--set", "initial_model=nowhere.safetensors")
    assert ended.returncode == 2 and "initial model nowhere.safetensors" in ended.stderr


NOWHERE = "mqtt://127.0.0.1:1"
"""Where no broker is."""


def test_stopped_before_it_had_a_broker_it_can_be_started_again(tmp_path: Path) -> None:
    config, folder = write(tmp_path, GOOD), tmp_path / "out"
    words = ["fedmqtt", "coordinator", str(config), "--broker", NOWHERE, "--run", str(folder)]
    for _ in range(2):
        with running(tmp_path, *words) as coordinator:
            coordinator.wait_for("cannot reach")
            coordinator.process.send_signal(signal.SIGTERM)
            assert coordinator.wait() == 130
        assert coordinator.said == "stopped before the run began\n"
        assert not (folder / "federation.toml").exists()


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    config = write(tmp_path, GOOD + f'runs = "{tmp_path}/runs"\n')
    words = ["fedmqtt", "coordinator", str(config), "--broker", NOWHERE]
    with running(tmp_path, *words) as coordinator:
        coordinator.wait_for("cannot reach")
        assert len(list((tmp_path / "runs").iterdir())) == 1
        coordinator.process.send_signal(signal.SIGTERM)
        assert coordinator.wait() == 130
    assert list((tmp_path / "runs").iterdir()) == []
    assert run(config, "--set", "task=no_such_task").returncode == 2
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "folder"), [("evaluate", "evaluations"), ("statistics", "statistics")]
)
def test_clients_are_asked_once_more_where_the_ledger_of_who_asked_before_is_lost(
    command: str, folder: str, tmp_path: Path
) -> None:
    before = tmp_path / "runs" / folder / "ward-7-20260101-000000"
    before.mkdir(parents=True)
    (before / "model.safetensors").touch()
    config = write(tmp_path, GOOD + f'runs = "{tmp_path}/runs"\n')
    with running(tmp_path, "fedmqtt", command, str(config), "--broker", NOWHERE) as asking:
        asking.wait_for(f"{before} holds a run, and no ledger.db that knows of it")
        asking.wait_for("another is begun")
        asking.wait_for("cannot reach")


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_its_first_model_is_made_it_ends_at_once_and_the_maker_with_it(
    told: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(
        f"""{BEFORE_TRAINING}
import os, pathlib
train = evaluate
def initial_weights(seed):
    at = pathlib.Path({str(tmp_path)!r})
    (at / "new").write_text(f"{{os.getpid()}} {{os.getpgrp()}}")
    (at / "new").replace(at / "maker")
    time.sleep(1e6)
"""
    )
    text = f'name = "ward-7"\ntask = "{tmp_path}/slow.py"\nruns = "{tmp_path}/runs"\n'
    config = write(tmp_path, text)
    with running(tmp_path, "fedmqtt", "coordinator", str(config)) as coordinator:
        wait_until(lambda: (tmp_path / "maker").exists() or coordinator.process.poll() is not None)
        maker, group = map(int, (tmp_path / "maker").read_text().split())
        assert group != os.getpgid(coordinator.process.pid), "no terminal's Ctrl-C reaches it"
        coordinator.process.send_signal(told)
        assert coordinator.wait() == 130
    assert coordinator.said == "stopped before the run began\n"
    assert "Traceback" not in coordinator.log and "no initial model" not in coordinator.log
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(maker, 0)


@pytest.mark.broker
def test_ctrl_c_withdraws_the_offer_and_ends_with_130(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url.replace("//", "//ada:secret@")
    config = write(tmp_path, f'name = "{federation_name}"\ntask = "learning_tasks.linear"\n')
    words = ["--broker", url, "--run", str(tmp_path / "run")]
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guest("ann"), room.guest("bob")
        for guest in (ann, bob):
            guest.come(task="learning_tasks.linear")
        with running(tmp_path, "fedmqtt", "coordinator", str(config), *words) as coordinator:
            ann.offered(1)
            coordinator.process.send_signal(signal.SIGINT)
            assert coordinator.wait() == 130
        room.wait(lambda: ann.offers[-1] is None)
        room.wait(lambda: room.retained_model_bytes == 0)
        assert room.page("coordinator", lambda page: page.state == "stopped")
    assert coordinator.said.startswith("stopped after 0 rounds")
    assert "Traceback" not in coordinator.log
    # Run folders are shown around, and logs too.
    kept = (tmp_path / "run" / "federation.toml").read_text()
    assert "mqtt://ada@" in kept and "secret" not in kept + coordinator.log


@pytest.mark.broker
@pytest.mark.skipif(sys.platform != "linux", reason="a file's size is limited from outside here")
def test_a_full_disk_is_said_and_nothing_stays_on_the_broker(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    save_file({"w": np.zeros(1000, np.float32)}, start)
    config = write(
        tmp_path,
        f'name = "{federation_name}"\ntask = "learning_tasks.linear"\ninitial_model = "{start}"\n'
        "[evaluation]\nevery = 0\n[rounds]\nquorum = 1\ncohort = 1\nclients_min = 1\n",
    )
    words = ["--broker", mosquitto_broker.url, "--run", str(tmp_path / "run")]
    with Room(mosquitto_broker.url, federation_name) as room:
        ann = room.guest("ann")
        ann.come(task="learning_tasks.linear")
        with running(tmp_path, "fedmqtt", "coordinator", str(config), *words) as coordinator:
            offer = ann.offered(1)
            # Enough for a line of history, not for a model.
            limits = (3000, 3000)
            resource.prlimit(coordinator.process.pid, resource.RLIMIT_FSIZE, limits)
            ann.say(update(offer, [0.5] * 1000))
            room.wait(lambda: coordinator.process.poll() is not None)
        room.wait(lambda: ann.offers[-1] is None)
        room.wait(lambda: room.retained_model_bytes == 0)
    assert coordinator.wait() == 1
    assert "ledger.db: disk I/O error" in coordinator.log and "Traceback" not in coordinator.log
    assert "nothing that was received is lost" in coordinator.log
    # The model of before is still whole.
    assert not load_file(tmp_path / "run" / "model.safetensors")["w"].any()
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.broker
def test_a_finished_run_leaves_its_model_and_its_history_and_ends_with_0(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    save_file({"w": np.array([1.0, 2.0], np.float32)}, start)
    config = write(
        tmp_path,
        f'name = "{federation_name}"\ntask = "learning_tasks.linear"\nruns = "{tmp_path}/runs"\n'
        f'initial_model = "{start}"\n[evaluation]\nevery = 0\n'
        "[rounds]\ncount = 2\ncohort = 2\nover_selection = 1.0\n",
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        guests = [room.guest("ann"), room.guest("bob")]
        for guest in guests:
            guest.come(task="learning_tasks.linear")
        words = ["fedmqtt", "coordinator", str(config), "--json-logs"]
        with running(tmp_path, *words, "--broker", mosquitto_broker.url) as coordinator:
            for number in (1, 2):
                offer = guests[0].offered(number)
                for guest in guests:
                    guest.say(update(offer, [0.5, -1.0]), number=number)
            room.wait(lambda: coordinator.process.poll() is not None)
        room.wait(lambda: guests[0].offers[-1] is None)
        room.wait(lambda: room.retained_model_bytes == 0)
    assert coordinator.wait() == 0
    said = coordinator.said
    (folder,) = (tmp_path / "runs").iterdir()
    assert said.startswith("finished after 2 rounds: 4 of 4 invited answered, 0 dropped")
    assert str(folder) in said and folder.name.startswith(f"{federation_name}-")
    assert load_file(folder / "model.safetensors")["w"].tolist() == [2.0, 0.0]
    records = history.read(folder / "history.jsonl")
    assert [(one.round, one.outcome, one.samples) for one in records] == [
        (1, "averaged", 20),
        (2, "averaged", 20),
    ]
    messages = [json.loads(line)["message"] for line in coordinator.log.splitlines()]
    assert any(text.startswith("round 2 averaged (cohort complete): 2 of 2") for text in messages)

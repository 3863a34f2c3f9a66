"""`fedmqtt init` writes a federation that runs as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator import checks
from coordinator.commands.init_command import CONFIG_FILE, TASK_FILE, starter_config
from coordinator.config import FederationConfig
from coordinator.persistence import history
from fedmqtt import settings
from tests.patience import ENDS_WITHIN_S

FEDMQTT = [sys.executable, "-m", "fedmqtt"]


def _init(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [*FEDMQTT, "init", str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_what_init_writes_learns_with_three_clients(broker: RunningBroker, tmp_path: Path) -> None:
    folder = tmp_path / "greenhouse"
    assert _init(folder).returncode == 0
    clients = [
        subprocess.Popen(
            [
                *(*FEDMQTT, "client", "--broker", broker.url, "--federation", "greenhouse"),
                *("--id", name, "--task", TASK_FILE, "--state", str(tmp_path / name)),
                # So that five rounds need not start torch five times.
                *("--set", "trainer.keep_warm_s=60"),
            ],
            cwd=folder,
        )
        for name in ("one", "two", "three")
    ]
    try:
        ran = subprocess.run(
            [
                *(*FEDMQTT, "coordinator", CONFIG_FILE, "--broker", broker.url, "--run", "run"),
                *("--set", "rounds.count=5", "--set", "rounds.clients_min=3"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
    finally:
        for client in clients:
            client.terminate()
        for client in clients:
            client.wait(20)
    assert ran.returncode == 0, ran.stderr
    records = history.read(folder / "run" / "history.jsonl")
    assert [len(record.answered) for record in records] == [3, 3, 3, 3, 3, 0]
    first, last = records[0].figures, records[-1].figures
    assert first is not None and last is not None
    assert last.metrics["accuracy"] > max(0.7, first.metrics["accuracy"])
    assert set(load_file(folder / "run" / "model.safetensors")) == {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    }


def test_the_file_names_every_setting_and_stands_at_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_FILE
    path.write_text(starter_config("greenhouse"))
    written = settings.read(path, [], FederationConfig)
    assert written == FederationConfig(name="greenhouse", task=TASK_FILE)


def test_another_strategy_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_FILE
    path.write_text(starter_config("greenhouse"))
    words = ["aggregation=norm_clipping", "selection=oort", "codec=part(share=0.5)+eden"]
    checks.check(settings.read(path, words, FederationConfig))


def test_the_next_steps_are_told(tmp_path: Path) -> None:
    said = _init(tmp_path / "greenhouse").stdout
    for words in ("fedmqtt broker", "fedmqtt coordinator", "--id one", "--federation greenhouse"):
        assert words in said


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    ran = _init(tmp_path / "mine")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("fedmqtt init: ") and "nothing was written" in ran.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["my federation", "+", "fed#1", "ü"])
def test_a_folder_that_cannot_name_a_federation_is_refused(tmp_path: Path, name: str) -> None:
    ran = _init(tmp_path / name)
    assert ran.returncode == 2
    assert "cannot name a federation" in ran.stderr
    assert not (tmp_path / name).exists()

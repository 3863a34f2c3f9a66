"""What `fedmqtt enroll --keyholder` prints is what to type next, as it stands."""

import shlex
import shutil
from pathlib import Path

import pytest

from broker_config import kit
from broker_config.mosquitto import find_mosquitto
from fedmqtt import command_line
from tests.broker_config.kit_broker import plan, running_kit
from tests.programs import running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]


def test_a_keyholder_starts_by_the_words_that_its_enrolment_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kit"
    made = kit.create(folder, plan(folder))
    assert command_line.run(["enroll", str(folder), "kh-a", "--keyholder"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    [copy] = (line for line in lines if line.startswith("scp "))
    [start] = (line for line in lines if line.startswith("fedmqtt "))
    _, *files, machine = shlex.split(copy)
    assert machine == "kh-a:"
    there = tmp_path / "kh-a"
    there.mkdir()
    for file in files:
        # As scp, which keeps who may read it.
        shutil.copy(file, there)
    monkeypatch.chdir(there)
    with running_kit(made, folder), running(tmp_path, *shlex.split(start)) as keyholder:
        keyholder.wait_for("connected (MQTT 5)")

"""A kit whose broker is Home Assistant's, too: who may write and read what describes entities."""

import json
from pathlib import Path

import pytest

from broker_config import access, kit
from broker_config.doctor.rights import allows
from fedmqtt import command_line, discovery
from tests.broker_config.kit_broker import FEDERATION, plan

_FILES = ("acl", "emqx-acl.conf", "aws-coordinator.json", "aws-monitor.json")


def _mentions(folder: Path) -> set[str]:
    """Which of the broker's files have a word on it."""
    files = (folder / "broker").iterdir()
    return {path.name for path in files if discovery.PREFIX in path.read_text()}


def test_without_being_asked_a_kit_has_no_word_on_it(tmp_path: Path) -> None:
    kit.create(tmp_path / "kit", plan(tmp_path / "kit"))
    assert _mentions(tmp_path / "kit") == set()


def test_a_kit_that_is_asked_says_it_to_each_broker(tmp_path: Path) -> None:
    words = ("--federation", FEDERATION, "--host", "broker.example", "--home-assistant")
    assert command_line.run(["broker-kit", str(tmp_path / "kit"), *words]) == 0
    assert _mentions(tmp_path / "kit") == set(_FILES)
    policy = json.loads((tmp_path / "kit" / "broker" / "aws-coordinator.json").read_text())
    written = f"topic/{discovery.config_filter(FEDERATION).replace('+', '*')}"
    for action in ("Publish", "RetainPublish", "Receive"):
        (one,) = [each for each in policy["Statement"] if each["Action"] == f"iot:{action}"]
        assert any(resource.endswith(written) for resource in one["Resource"]), action


def test_a_kit_that_was_made_without_is_told_by_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    kit.create(folder, plan(folder))
    path = folder / "kit.toml"
    path.write_text(path.read_text().replace("home_assistant = false", "home_assistant = true"))
    kit.Kit(folder).enroll("pi-3")
    assert _mentions(folder) == {"acl", "emqx-acl.conf"}


@pytest.mark.parametrize("home_assistant", [True, False])
def test_a_coordinator_describes_its_own_federation_and_a_monitor_reads(
    home_assistant: bool,
) -> None:
    coordinator = access.of_coordinators(FEDERATION, home_assistant=home_assistant)
    monitor = access.of_monitors(FEDERATION, home_assistant=home_assistant)
    own = discovery.config_topic(FEDERATION, "sensor", "round")
    others = discovery.config_topic("other", "sensor", "round")
    assert allows(coordinator, "write", own) is home_assistant
    assert allows(monitor, "read", own) is home_assistant
    assert allows(monitor, "read", others) is home_assistant
    assert not allows(coordinator, "write", others)
    assert not allows(monitor, "write", own)
    assert not allows(access.of_devices(FEDERATION, "pi-3"), "read", own)


def test_a_kit_of_before_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    kit.create(folder, plan(folder))
    path = folder / "kit.toml"
    path.write_text(path.read_text().replace("home_assistant = false\n", ""))
    assert kit.Kit(folder).plan.home_assistant is False
    kit.Kit(folder).enroll("pi-3")
    assert _mentions(folder) == set()

"""docker-compose.keyholders.yml over docker-compose.yml: three keyholders, from the kit's accounts.

Looked at as tests/test_compose.py looks at the other, and run as tests/test_images.py runs that.
"""

import argparse
import subprocess
import sysconfig
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker_config.mosquitto import find_mosquitto
from coordinator.config import FederationConfig
from coordinator.masking import privacy_checks
from coordinator.persistence import history
from fedmqtt import credentials, revocations, settings
from keyholder import command as keyholder_command
from tests import images
from tests.brokers import is_required
from tests.images import KEYHOLDERS, ROOT, Stack
from tests.own_broker import free_port
from tests.patience import ENDS_WITHIN_S
from tests.programs import wait_until

NAMES = ("kh-a", "kh-b", "kh-c")
DEMO = ("demo-1", "demo-2", "demo-3")
BOTH: dict[str, Any] = images.compose(KEYHOLDERS)["services"]
BASE: dict[str, Any] = images.compose()["services"]
FEDERATION = ROOT / "examples/compose/federation-masked.toml"


def _mounts(service: str) -> dict[str, str]:
    """What lies at each place: the source, and the mode where one is said."""
    found = {}
    for mount in BOTH[service].get("volumes", ()):
        source, place, *mode = mount.split(":")
        found[place] = ":".join([source, *mode])
    return found


def _federation() -> FederationConfig:
    return settings.read(FEDERATION, [], FederationConfig)


def test_it_is_a_compose_file_by_the_specification() -> None:
    program = Path(sysconfig.get_path("scripts")) / "check-jsonschema"
    words = ["--builtin-schema", "vendor.compose-spec", KEYHOLDERS[1]]
    ran = subprocess.run(
        [program, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_kit_is_told_what_it_is_told_without_and_of_the_keyholders() -> None:
    more = [f"--keyholder={name}" for name in NAMES]
    assert [word for word in BOTH["kit"]["command"] if word not in more] == BASE["kit"]["command"]
    assert [word for word in BOTH["kit"]["command"] if word in more] == more


@pytest.mark.parametrize("name", NAMES)
def test_a_keyholder_has_its_own_account_and_lists_and_nobody_elses(name: str) -> None:
    account = f"/federation/accounts/{name}"
    assert _mounts(name) == {account: f"{name}-account:ro", "/federation/state": f"{name}-state"}
    assert _mounts("kit")[account] == f"{name}-account"
    others = {
        source.removesuffix(":ro")
        for service in BOTH
        if service not in (name, "kit")
        for source in _mounts(service).values()
    }
    assert not {f"{name}-account", f"{name}-state"} & others
    command, *words = BOTH[name]["command"]
    assert command == "keyholder"
    parser = argparse.ArgumentParser()
    keyholder_command.add_arguments(parser)
    found = parser.parse_args(words)
    assert str(found.credentials) == f"{account}/{name}.toml"
    assert str(found.enrolled) == f"{account}/enrolled-devices"
    assert str(found.revoked) == f"{account}/revoked-devices"
    assert found.state.parent == Path("/federation/state")
    assert found.floor == _federation().privacy.floor
    (client,) = [word for word in BASE["demo-1"]["command"] if word.startswith("--broker=")]
    assert client in words


@pytest.mark.parametrize("name", NAMES)
def test_a_keyholder_may_do_as_little_as_the_others(name: str) -> None:
    for what in ("read_only", "tmpfs", "cap_drop", "security_opt", "init", "stop_grace_period"):
        assert BOTH[name][what] == BASE["coordinator"][what], what
    stage = images.stages()[BOTH[name]["build"]["target"]]
    assert (stage.user, stage.entrypoint, stage.command[0]) == (
        "10001:10001",
        ["fedmqtt"],
        "keyholder",
    )
    made = next(run for run in images.stages()["base"].runs if "install -d" in run)
    # A new volume takes the owner of the folder that it is mounted over.
    assert f"/federation/accounts/{name}" in made.split()


def test_the_federation_is_the_other_one_with_answers_that_are_masked() -> None:
    base = tomllib.loads((ROOT / "examples/compose/federation.toml").read_text())
    masked = tomllib.loads(FEDERATION.read_text())
    assert (masked["name"], masked["task"]) == (base["name"], base["task"])
    assert masked["broker"] == base["broker"]
    privacy_checks.check_job(_federation(), "train")
    assert _mounts("coordinator")["/federation/federation.toml"] == (
        "./examples/compose/federation-masked.toml:ro"
    )


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """With a kit that was made."""
    reason = images.why_no_sandbox() or ("" if find_mosquitto() else "Mosquitto is not installed")
    if reason and is_required("sandbox"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    moved = {"8883": str(free_port()), "8884": str(free_port()), "pause_s = 10": "pause_s = 0"}
    wheel = images.wheel(images.build_context(tmp_path / "context"), tmp_path / "wheel")
    made = Stack(tmp_path, wheel, moved, KEYHOLDERS)
    prepared = made.prepare()
    assert prepared.returncode == 0, prepared.stderr
    return made


@pytest.mark.broker
@pytest.mark.timeout(600)
def test_the_demo_trains_and_its_coordinator_sees_no_answer(stack: Stack) -> None:
    for name in NAMES:
        account = stack.volume(f"{name}-account")
        assert {path.name for path in account.iterdir()} == {
            f"{name}.toml",
            "enrolled-devices",
            "revoked-devices",
        }
    for name in DEMO:
        known = credentials.read(stack.volume("demo-accounts") / f"{name}.toml").pinned
        assert [*known] == [*NAMES]
    with ExitStack() as running:
        programs = {"broker": running.enter_context(stack.up("broker"))}
        stack.until_healthy("broker")
        for service in ("coordinator", *NAMES, *DEMO):
            programs[service] = running.enter_context(stack.up(service))
        runs = stack.volume("runs")
        wait_until(lambda: len([*runs.glob("*/history.jsonl")]) == 1)
        (path,) = runs.glob("*/history.jsonl")
        wait_until(lambda: len(history.read(path)) >= 2)
    records = history.read(path)
    assert {(record.outcome, record.samples) for record in records} == {("averaged", 0)}
    assert records[0].answered == [*DEMO]
    for name in NAMES:
        assert "opened a sum of 3 clients" in programs[name].log
        assert "without --enrolled" not in programs[name].log


@pytest.mark.broker
@pytest.mark.timeout(600)
def test_keyholders_hear_of_devices_that_come_and_go_where_their_volumes_are_there(
    stack: Stack,
) -> None:
    def listed(name: str, file: str) -> int:
        return len(revocations.read(stack.volume(f"{name}-account") / file).keys)

    enrolled = stack.run("kit", "enroll", "pi-3")
    assert enrolled.returncode == 0 and not enrolled.stderr
    assert {listed(name, "enrolled-devices") for name in NAMES} == {4}
    assert stack.run("kit", "revoke", "pi-3").returncode == 0
    assert {listed(name, "enrolled-devices") for name in NAMES} == {3}
    assert {listed(name, "revoked-devices") for name in NAMES} == {1}
    without = Stack(stack.folder, stack.wheel_file, stack.moved)
    forgotten = without.run("kit", "enroll", "pi-4")
    assert forgotten.returncode == 0
    assert "kit: kh-a hears of it when enrolled-devices and" in forgotten.stderr
    assert "COMPOSE_FILE=" in forgotten.stderr
    more = stack.run("kit", "enroll", "kh-d", "--keyholder")
    assert more.returncode == 0
    assert "docker compose cp kit:/federation/kit/kit/accounts/kh-d.toml ." in more.stdout
    assert "kit: kh-d hears of it when" in more.stderr and "kit: kh-a" not in more.stderr

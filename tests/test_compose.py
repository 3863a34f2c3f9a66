"""docker-compose.yml, the Dockerfile and the files, commands and addresses they speak of agree.

No container is started here: this finds the renamed file, the lost subcommand, the mistyped host.
What the services run is run by tests/test_images.py.
"""

import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker_config import kit_command
from fedmqtt.command_line import COMMANDS
from tests import images
from tests.patience import ENDS_WITHIN_S

ROOT = images.ROOT
COMPOSE = images.compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAGES = images.stages()
BUILT = sorted(name for name, said in SERVICES.items() if "build" in said)
DEMO = sorted(name for name, said in SERVICES.items() if said.get("profiles") == ["demo"])


def _tool(name: str, *words: str) -> str:
    """What is wrong by this tool, which pip has installed."""
    program = Path(sysconfig.get_path("scripts")) / name
    ran = subprocess.run(
        [program, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def _mounts(service: str) -> dict[str, tuple[str, str]]:
    """What lies at a path in the container: the source, and the mode ("rw" unless it says "ro")."""
    parts = [mount.split(":") for mount in SERVICES[service].get("volumes", ())]
    return {part[1]: (part[0], part[2] if len(part) == 3 else "rw") for part in parts}


def _written(service: str) -> list[str]:
    return [place for place, (_, mode) in _mounts(service).items() if mode == "rw"]


def _options(service: str, name: str) -> list[str]:
    """The values of a command line's `--name=value`."""
    words: list[str] = SERVICES[service]["command"]
    return [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]


def _user(service: str) -> str:
    said = SERVICES[service]
    return str(said["user"] if "user" in said else STAGES[said["build"]["target"]].user)


def test_it_is_a_compose_file_by_the_specification() -> None:
    assert (
        _tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
        == ""
    )


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="hadolint comes from pip for Linux on x86-64 alone",
)
def test_the_dockerfile_has_no_fault_that_is_known_to_many() -> None:
    assert _tool("hadolint", "Dockerfile") == ""


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_is_mounted_exists(service: str) -> None:
    for source, _ in _mounts(service).values():
        if source.startswith("."):
            # Docker makes an empty folder of a file that is not there, and says nothing.
            assert (ROOT / source).is_file(), source
        else:
            assert source in COMPOSE["volumes"], source


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_container_cannot_write_into_the_checkout(service: str) -> None:
    modes = {source: mode for source, mode in _mounts(service).values() if source.startswith(".")}
    assert set(modes.values()) <= {"ro"}, modes


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_container_may_do_little(service: str) -> None:
    said = SERVICES[service]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    # All of one user: what one hands to another is for that user's eyes alone.
    assert _user(service) == "10001:10001"


@pytest.mark.parametrize("service", BUILT)
def test_a_volume_belongs_to_who_writes_it(service: str) -> None:
    # A named volume takes the owner of the folder in the image; a missing one would belong to root.
    made = next(run for run in STAGES["base"].runs if "install -d" in run)
    private = next(part for part in made.split("&&") if "-m 0700" in part)
    assert "-o 10001 -g 10001" in private
    assert set(_written(service)) <= set(private.split())


def test_what_is_compiled_for_arm_finds_its_headers() -> None:
    lists = [
        (ROOT / "requirements" / name).read_text() for name in images.requirements_of("client")
    ]
    # cffi has no wheel for it, and its sources do not bring libffi's headers.
    assert any(text.count("\ncffi==") for text in lists)
    (installs,) = [run for run in STAGES["tools"].runs if '"$TARGETARCH" = arm' in run]
    assert {"build-essential", "libffi-dev"} <= set(installs.split())


def test_the_coordinator_is_handed_the_list_of_the_revoked() -> None:
    broker = tomllib.loads((ROOT / "examples/compose/federation.toml").read_text())["broker"]
    place = Path(broker["revoked"]).parent
    assert place == Path(broker["credentials"]).parent and str(place) in _mounts("coordinator")


def test_what_the_broker_writes_is_given_to_it_by_the_kit() -> None:
    # Its own image has no such folder, from which the volume could take an owner.
    mounts = _mounts("broker")
    assert all(_mounts("kit")[place] == (mounts[place][0], "rw") for place in mounts)
    assert _options("kit", "data") == _written("broker")
    assert [f"{place}/mosquitto.conf" for place in _options("kit", "place")] == [
        SERVICES["broker"]["command"][-1]
    ]


def test_the_published_ports_are_those_of_the_kit() -> None:
    ports = [port.rsplit(":", 2) for port in SERVICES["broker"]["ports"]]
    assert [port[1:] for port in ports] == [
        [str(kit_command.PORT)] * 2,
        [str(kit_command.SERVERS_PORT)] * 2,
    ]
    # Whoever may run a round does so from this machine.
    assert ports[1][0] == "127.0.0.1"
    # As whoever has a dashboard's address can log in by it.
    assert SERVICES["dashboard"]["ports"] == ["127.0.0.1:8710:8710"]
    assert _options("dashboard", "port") == ["8710"]
    assert {name for name, said in SERVICES.items() if "ports" in said} == {"broker", "dashboard"}


def test_each_program_connects_to_the_broker_by_a_name_in_its_certificate() -> None:
    federation = tomllib.loads((ROOT / "examples/compose/federation.toml").read_text())
    urls = {"coordinator": federation["broker"]["url"]}
    urls |= {name: _options(name, "broker")[0] for name in ("monitor", "dashboard", *DEMO)}
    (asked,) = [word for word in SERVICES["coordinator"]["healthcheck"]["test"] if "mqtts" in word]
    assert asked == f"--broker={urls['coordinator']}"
    assert "broker" in SERVICES and "broker" in _options("kit", "host")
    for name, url in urls.items():
        port = kit_command.PORT if name in DEMO else kit_command.SERVERS_PORT
        where = urlsplit(url)
        assert (where.scheme, where.hostname, where.port) == ("mqtts", "broker", port), name
        assert SERVICES[name]["depends_on"]["broker"]["condition"] == "service_healthy"


def test_the_kit_is_of_the_federation_that_is_coordinated() -> None:
    federation = tomllib.loads((ROOT / "examples/compose/federation.toml").read_text())
    assert _options("kit", "federation") == [federation["name"]]


def test_each_program_has_the_account_that_the_kit_hands_to_it() -> None:
    federation = tomllib.loads((ROOT / "examples/compose/federation.toml").read_text())
    accounts = {"coordinator": federation["broker"]["credentials"]}
    accounts |= {name: _options(name, "credentials")[0] for name in ("monitor", *DEMO)}
    # One account: both read what the broker shows.
    assert _options("dashboard", "credentials") == [accounts["monitor"]]
    assert _mounts("dashboard") == _mounts("monitor")
    assert _options("kit", "enroll") == DEMO
    for name, file in accounts.items():
        folder = f"/federation/accounts/{'demo' if name in DEMO else name}"
        assert file == f"{folder}/{name}.toml"
        assert _mounts(name)[folder] == (_mounts("kit")[folder][0], "ro")


@pytest.mark.parametrize("service", BUILT)
def test_the_command_exists(service: str) -> None:
    stage = STAGES[SERVICES[service]["build"]["target"]]
    command, *_ = SERVICES[service]["command"]
    if service == "kit":
        assert command in ("prepare",)
    else:
        assert stage.entrypoint == ["fedmqtt"]
        assert command in COMMANDS and stage.command[0] in COMMANDS


def test_what_is_installed_has_hashes() -> None:
    runs = [run for stage in STAGES.values() for run in stage.runs]
    installs = {part.strip() for run in runs for part in run.split("&&") if "pip install" in part}
    for install in installs:
        words = shlex.split(install, comments=False)
        # What is needed is in the list, and not looked for.
        assert "--no-deps" in words, install
        if "-r" in words:
            assert "--require-hashes" in words, install
            assert (ROOT / words[words.index("-r") + 1]).is_file(), install
    others = {install for install in installs if "-r requirements/" not in install}
    assert all("/wheels/*.whl" in one or "torch==" in one for one in others), others


def test_the_wheel_is_built_by_what_pyproject_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = re.findall(r"^([a-z]+)==", (ROOT / "requirements/build.txt").read_text(), re.M)
    assert [re.split(r"\W", one)[0] for one in asked] == locked


def test_the_build_gets_every_file_that_it_installs() -> None:
    # .dockerignore leaves out all that it does not name.
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    packages = {init.parent.name for init in ROOT.glob("*/__init__.py")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert packages | needed | {"requirements"} <= allowed
    assert not [name for name in needed if not (ROOT / name).is_file()]

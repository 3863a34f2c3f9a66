"""docker-compose.yml and the files, commands and addresses it speaks of agree.

No container is started here: this finds the renamed file, the lost subcommand, the mistyped host.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _mounts(service: str) -> dict[str, tuple[str, str]]:
    """What lies at a path in the container: the source, and the mode ("rw" unless it says "ro")."""
    parts = [mount.split(":") for mount in SERVICES[service]["volumes"]]
    return {part[1]: (part[0], part[2] if len(part) == 3 else "rw") for part in parts}


def _broker_setting(name: str) -> str:
    conf = (ROOT / "broker_config" / "mosquitto.conf").read_text()
    found = re.search(rf"^{name} (.+)$", conf, re.MULTILINE)
    assert found, f"mosquitto.conf has no {name}"
    return found[1]


def _strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)
        case _:
            pass


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


def test_the_broker_keeps_what_it_persists_in_a_volume() -> None:
    folder = _broker_setting("persistence_location").rstrip("/")
    source, mode = _mounts("broker")[folder]
    assert source in COMPOSE["volumes"]
    assert mode == "rw"


def test_the_published_port_is_where_the_broker_listens() -> None:
    listener = _broker_setting("listener")
    assert [port.rsplit(":", 1)[1] for port in SERVICES["broker"]["ports"]] == [listener]


def test_an_open_broker_is_published_to_this_machine_only() -> None:
    # mosquitto.conf lets everyone in; who wants that on a network has to say so.
    assert _broker_setting("allow_anonymous") == "true"
    for port in SERVICES["broker"]["ports"]:
        assert port.startswith("${FEDMQTT_LISTEN:-127.0.0.1}:")


def test_the_coordinator_connects_to_the_broker_service() -> None:
    _, config, *_ = SERVICES["coordinator"]["command"]
    source, _ = _mounts("coordinator")[config]
    urls = [
        urlsplit(text)
        for text in _strings(tomllib.loads((ROOT / source).read_text()))
        if text.startswith(("mqtt://", "mqtts://"))
    ]
    assert [url.hostname for url in urls] == ["broker"]
    assert [url.port or 1883 for url in urls] == [int(_broker_setting("listener"))]
    assert "broker" in SERVICES["coordinator"]["depends_on"]


def test_the_command_exists() -> None:
    subcommand, *_ = SERVICES["coordinator"]["command"]
    run = subprocess.run(
        [sys.executable, "-m", "fedmqtt", subcommand, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_image_runs_the_command_without_being_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["fedmqtt"]' in lines
    assert [line for line in lines if line.startswith("USER ")] == ["USER fedmqtt"]


def test_what_the_image_writes_to_is_a_volume_that_it_owns() -> None:
    # A named volume takes the owner of the folder in the image; a missing one would belong to root.
    written = [path for path, (_, mode) in _mounts("coordinator").items() if mode == "rw"]
    assert SERVICES["coordinator"]["read_only"] is True
    assert written == ["/federation/runs"]
    install = next(
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if "install -d" in line
    )
    assert "-o fedmqtt" in install
    assert set(written) <= set(install.split())


def test_the_build_gets_every_file_that_it_installs() -> None:
    # .dockerignore leaves out all that it does not name.
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    packages = {init.parent.name for init in ROOT.glob("*/__init__.py")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert packages | needed <= allowed
    assert not [name for name in needed if not (ROOT / name).is_file()]

"""A dot in a name, where a broker takes it for a slash or not at all: programs say so."""

from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt import dotted_names
from tests.broker_config.broker_facts import FOUND
from tests.programs import Program, running

pytestmark = pytest.mark.broker

_LINEAR = "learning_tasks.linear"


def test_only_names_with_dots_are_looked_at() -> None:
    filters = ("fed/v1/demo/offer", "fed/v1/demo/inbox/pi.3")
    assert dotted_names.with_slashes(filters) == {"fed/v1/demo/inbox/pi/3": "pi.3"}
    assert dotted_names.with_slashes(("fed/v1/home.1/status/#",)) == {
        "fed/v1/home/1/status/#": "home.1"
    }


@pytest.mark.parametrize("name", ["the device's", "the federation's"])
def test_a_client_says_what_its_dots_are_to_the_broker(
    any_broker: RunningBroker, broker_kind: str, federation_name: str, name: str, tmp_path: Path
) -> None:
    federation, device = (
        (federation_name, "pi.3") if name == "the device's" else (f"{federation_name}.1", "pi-3")
    )
    (tmp_path / "data").mkdir()
    words = (
        *("fedmqtt", "client", "--broker", any_broker.url, "--insecure", "--task", _LINEAR),
        *("--federation", federation, "--id", device),
        *("--data", str(tmp_path / "data"), "--state", str(tmp_path / "state")),
    )
    with running(tmp_path, *words) as client:
        _says_of_dots(client, broker_kind, device if "." in device else federation)


def test_a_coordinator_says_what_its_dots_are_to_the_broker(
    any_broker: RunningBroker, broker_kind: str, federation_name: str, tmp_path: Path
) -> None:
    name = f"{federation_name}.1"
    config = tmp_path / "federation.toml"
    config.write_text(
        f'name = "{name}"\ntask = "{_LINEAR}"\n[broker]\nurl = "{any_broker.url}"\n'
        "[rounds]\ncount = 1\n"
    )
    run = ("--run", str(tmp_path / "run"), "--insecure")
    with running(tmp_path, "fedmqtt", "coordinator", str(config), *run) as coordinator:
        _says_of_dots(coordinator, broker_kind, name)


def _says_of_dots(program: Program, broker_kind: str, name: str) -> None:
    if broker_kind not in FOUND:
        pytest.skip(f"nobody has written down what {broker_kind} does with dots")
    if FOUND[broker_kind].names_with_dots:
        program.wait_for("connected")
        assert " dot " not in program.log
    elif broker_kind == "rabbitmq":
        assert program.wait() == 3, program.log
        *_, said = program.log.strip().splitlines()
        assert f"takes the dot in '{name}' for a slash" in said
        assert "choose a name without dots" in said
    else:
        program.wait_for(f"that may be for the dot in '{name}', which some brokers do not take")

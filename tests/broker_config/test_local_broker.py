"""Brokers started here: they serve, they say who they are, and they leave nothing behind."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from broker_config.child import PortTaken, running
from broker_config.local_broker import BrokerError, RunningBroker, start_broker
from broker_config.mosquitto import find_mosquitto
from tests.broker_config.plain_client import connected
from tests.patience import WITHIN_S

pytestmark = pytest.mark.broker

STARTED_HERE = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed"),
    ),
    "embedded",
]


@pytest.mark.parametrize("choice", STARTED_HERE)
def test_a_broker_is_gone_after_the_block_and_so_are_its_processes(choice: str) -> None:
    before = set(psutil.Process().children(recursive=True))
    with start_broker(choice) as broker:
        found = set(psutil.Process().children(recursive=True)) - before
        # Other tests' brokers start processes of their own, whenever they like.
        started = {process for process in found if before.isdisjoint(process.parents())}
        with connected(broker.url, "ann"):
            pass
    assert started
    assert not any(process.is_running() for process in started)
    with pytest.raises(BrokerError, match="No broker answers"), start_broker(broker.url):
        pass


@pytest.mark.parametrize("choice", STARTED_HERE)
def test_a_broker_ends_when_the_program_that_started_it_is_killed(choice: str) -> None:
    program = (
        "from broker_config.local_broker import start_broker\n"
        f"with start_broker({choice!r}) as broker:\n"
        "    print(broker.url, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"mqtt://")
        orphans = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    assert orphans
    _, alive = psutil.wait_procs(orphans, timeout=WITHIN_S)
    assert not alive


@pytest.mark.parametrize("choice", STARTED_HERE)
def test_two_brokers_started_here_do_not_meet(choice: str) -> None:
    with start_broker(choice) as one, start_broker(choice) as other:
        assert one.url != other.url


def test_auto_takes_the_embedded_broker_where_mosquitto_is_not_installed() -> None:
    with start_broker("auto", mosquitto_folders=[]) as broker:
        assert re.fullmatch(r"embedded amqtt [\d.]+ \(port \d+\)", broker.name)


def test_auto_prefers_mosquitto(mosquitto_broker: RunningBroker) -> None:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is here only as a container")
    with start_broker("auto") as broker:
        assert re.fullmatch(r"Mosquitto [\d.]+ \(started here, port \d+\)", broker.name)


def test_mosquitto_was_asked_for_and_is_not_installed() -> None:
    with (
        pytest.raises(BrokerError, match="Mosquitto is not installed here"),
        start_broker("mosquitto", mosquitto_folders=[]),
    ):
        pass


def test_your_own_broker_is_used_and_named_without_its_password(
    embedded_broker: RunningBroker,
) -> None:
    url = embedded_broker.url.replace("mqtt://", "mqtt://ann:secret@")
    with start_broker(url) as broker:
        assert broker == RunningBroker(url, f"{embedded_broker.url} (yours)")


def test_of_your_own_cluster_one_node_need_be_there(embedded_broker: RunningBroker) -> None:
    url = embedded_broker.url.replace("mqtt://", "mqtt://127.0.0.1:1,")
    with start_broker(url) as broker:
        assert broker.url == url


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ("mqtt://127.0.0.1:1", "No broker answers at mqtt://127.0.0.1:1: "),
        ("mqtt://ann:secret@127.0.0.1:1", "No broker answers at mqtt://127.0.0.1:1: "),
        ("mqtt://127.0.0.1:99999", "broker 'mqtt://127.0.0.1:99999': expected mqtt://host[:port]"),
        ("http://127.0.0.1", "broker 'http://127.0.0.1': expected mqtt://host[:port]"),
        ("mosqito", "'mosqito' is no broker: expected auto, mosquitto, embedded, or a URL"),
    ],
)
def test_a_broker_that_cannot_be_had_is_one_clear_sentence(choice: str, complaint: str) -> None:
    with pytest.raises(BrokerError, match=re.escape(complaint)), start_broker(choice):
        pass


def test_a_child_that_fails_to_start_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such setting: listner')"]
    with (
        pytest.raises(BrokerError, match="no such setting: listner"),
        running(command, tmp_path / "log", re.compile("never said")),
    ):
        pass


def test_a_child_whose_port_is_taken_can_be_told_from_other_failures(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('Error: Address already in use')"]
    with (
        pytest.raises(PortTaken),
        running(command, tmp_path / "log", re.compile("never said")),
    ):
        pass

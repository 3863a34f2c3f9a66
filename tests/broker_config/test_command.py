"""`fedmqtt broker`, as a person in a terminal meets it."""

import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from broker_config.local_broker import RunningBroker
from tests.broker_config.plain_client import connected

pytestmark = pytest.mark.broker

# What `fedmqtt` does with each of its subcommands.
FEDMQTT_BROKER = """
import argparse, sys
from broker_config import command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))
"""


def _broker_command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", FEDMQTT_BROKER, *arguments]


def test_it_says_what_it_is_and_ends_cleanly_with_ctrl_c() -> None:
    with subprocess.Popen(
        _broker_command("--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        headline = process.stdout.readline()
        with connected(headline.split()[-1], "ann"):
            process.send_signal(signal.SIGINT)
            rest, errors = process.stdout.read(), process.stderr.read()
    assert headline.startswith("Embedded broker (amqtt) at mqtt://127.0.0.1:")
    assert "no accounts, no encryption" in rest
    assert "Ctrl-C stops it." in rest
    assert (process.returncode, errors) == (0, "")


def test_a_port_in_use_is_one_sentence(embedded_broker: RunningBroker) -> None:
    port = urlsplit(embedded_broker.url).port
    ended = subprocess.run(
        _broker_command("--port", str(port)), capture_output=True, encoding="utf-8", check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"Port {port} on 127.0.0.1 is already in use.\n"


@pytest.mark.parametrize("port", ["70000", "-1", "mqtt"])
def test_a_port_that_cannot_be_is_a_wrong_option(port: str) -> None:
    ended = subprocess.run(
        _broker_command("--port", port), capture_output=True, encoding="utf-8", check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    said = f"argument --port: {port!r} is no port: expected 0 to 65535"
    assert ended.stderr.splitlines()[-1].endswith(said)

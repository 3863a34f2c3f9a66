"""`fedmqtt dashboard`: what it refuses to serve, and what it says when it does."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import running
from tests.round_monitor.dashboards import address

BROKER = ("--broker", "mqtt://user:secret@127.0.0.1:1")


def _refused(*words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "fedmqtt", "dashboard", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (("--broker", "http://x"), "expected mqtt://host"),
        (("--broker", "mqtt://broker.example"), "is not encrypted"),
        (("--federation", "a/b"), "federation name 'a/b' is not"),
        (("--host", "0.0.0.0"), "would go over the network unencrypted"),
        (("--host", "192.0.2.1", "--insecure"), "cannot listen at 192.0.2.1:8710"),
        (("--port", "70000"), "'70000' is no port"),
        (("--websocket", "http://x"), "expected ws://host"),
        (("--websocket", "wss://user:secret@x"), "without a password"),
        (("--websocket", "ws://x; script-src *"), "expected ws://host"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(words: tuple[str, ...], because: str) -> None:
    assert because in _refused(*words)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen at 127.0.0.1:{port}" in _refused("--port", port)


def test_it_prints_an_address_and_no_password_and_ends_when_it_is_told(tmp_path: Path) -> None:
    with running(tmp_path, "fedmqtt", "dashboard", *BROKER, "--port", "0") as program:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{22}", address(program))
        assert "all federations at mqtt://user@127.0.0.1:1" in program.said
        assert "secret" not in program.said
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert program.log == ""


def test_each_has_a_port_where_none_is_asked_for(tmp_path: Path) -> None:
    with (
        running(tmp_path, "fedmqtt", "dashboard", *BROKER) as first,
        running(tmp_path, "fedmqtt", "dashboard", *BROKER) as second,
    ):
        assert address(first).split("#")[0] != address(second).split("#")[0]

"""`fedmqtt dashboard`: what it refuses to serve, and what it says when it does."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.patience import ENDS_WITHIN_S
from tests.programs import running, wait_until
from tests.round_monitor.dashboards import address

BROKER = ("--broker", "mqtt://user:secret@127.0.0.1:1")


def _refused(*words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "fedmqtt", "dashboard", *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
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
        (
            ("--host", "192.0.2.1", "--insecure"),
            "192.0.2.1:8710: this machine has no such address; choose another --host",
        ),
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
        why = f"cannot listen at 127.0.0.1:{port}: it is in use; choose another --port"
        assert _refused("--port", port) == f"fedmqtt dashboard: {why}\n"


def test_it_prints_an_address_and_no_password_and_ends_when_it_is_told(tmp_path: Path) -> None:
    with running(tmp_path, "fedmqtt", "dashboard", *BROKER, "--port", "0") as program:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{22}", address(program))
        assert "all federations at mqtt://127.0.0.1:1" in program.said
        assert "secret" not in program.said
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 0
        assert program.log == ""


def _a_browser(folder: Path, then: str) -> tuple[str, Path]:
    """A command that notes what it is to open; what it noted."""
    script, opened = folder / "browser", folder / "opened"
    script.write_text(f'#!/bin/sh\necho "$1" >"{opened}"\n{then}\n')
    script.chmod(0o700)
    return str(script), opened


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_it_opens_the_browser_at_the_address_that_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    # One that does not end, as those in a terminal: it must not keep the page from being served.
    until = tmp_path / "until"
    os.mkfifo(until)
    program, opened = _a_browser(tmp_path, f'read -r _ <"{until}"')
    monkeypatch.setenv("BROWSER", program)
    words = ("--open", "--port", "0", "--host", host, "--insecure")
    with running(tmp_path, "fedmqtt", "dashboard", *BROKER, *words) as dashboard:
        url = address(dashboard)
        wait_until(lambda: opened.exists() and opened.read_text().endswith("\n"))
        assert opened.read_text().strip() == url
        with urllib.request.urlopen(url) as page:
            assert b"<title>fedmqtt</title>" in page.read()
        assert dashboard.log == ""
    # It waits for somebody who writes.
    os.close(os.open(until, os.O_WRONLY | os.O_NONBLOCK))


def test_without_a_browser_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, opened = _a_browser(tmp_path, "exit 1")
    monkeypatch.setenv("BROWSER", program)
    monkeypatch.setenv("PATH", str(Path(program).parent))
    monkeypatch.delenv("DISPLAY", raising=False)
    with running(tmp_path, "fedmqtt", "dashboard", *BROKER, "--open", "--port", "0") as dashboard:
        dashboard.wait_for("There is no browser that could be opened here")
        assert opened.read_text().strip() == address(dashboard)
        assert dashboard.process.poll() is None


def test_each_has_a_port_where_none_is_asked_for(tmp_path: Path) -> None:
    with (
        running(tmp_path, "fedmqtt", "dashboard", *BROKER) as first,
        running(tmp_path, "fedmqtt", "dashboard", *BROKER) as second,
    ):
        assert address(first).split("#")[0] != address(second).split("#")[0]

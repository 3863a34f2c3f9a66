"""What serve.py gives to whom: its page to this machine, the way to the broker by its token."""

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.examples.pages_here import PAGE, ROOT
from tests.patience import ENDS_WITHIN_S
from tests.programs import running, wait_until

_TOLD = re.compile(r"http://127.0.0.1:(\d+)/\S+#token=(\S+)")


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, str]]:
    """Its port and its token. Nobody goes to the broker here."""
    words = ("--broker", "mqtt://localhost:1", "--federation", "demo", "--port", "0")
    with running(folder, "examples.browser_client.serve", *words) as program:
        wait_until(lambda: "Ctrl-C" in program.said or program.process.poll() is not None)
        found = _TOLD.search(program.said)
        assert found is not None, program.log
        yield int(found[1]), found[2]


def _get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_serves_its_page_and_nothing_else_of_the_folders(tmp_path: Path) -> None:
    with served(tmp_path) as (port, token):
        status, page = _get(port, f"/{PAGE}")
        assert status == 200 and page == (ROOT / PAGE).read_bytes()
        for name in re.findall(rb'(?:src|href)="([^"]+)"', page):
            path = (ROOT / PAGE).parent.joinpath(name.decode()).resolve()
            assert _get(port, f"/{path.relative_to(ROOT)}")[0] == 200, name
        for path_of in ("/", "/README.md", "/examples/browser_client/serve.py", "/../README.md"):
            assert _get(port, path_of)[0] == 404, path_of
        assert _get(port, f"/{PAGE}", Host="evil.example")[0] == 403
        assert _get(port, "/connection.json")[0] == 403
        assert _get(port, "/connection.json", Authorization="Bearer wrong")[0] == 403
        status, told = _get(port, "/connection.json", Authorization=f"Bearer {token}")
        assert status == 200
        assert json.loads(told) == {"federation": "demo", "id": "", "username": "", "password": ""}
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        upgrade |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        here = f"http://127.0.0.1:{port}"
        assert _get(port, "/broker?wrong", Origin=here, **upgrade)[0] == 403
        assert _get(port, f"/broker?{token}", Origin="http://evil.example", **upgrade)[0] == 403


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--broker", "mqtt://broker.example", "--federation", "demo"), "is not encrypted"),
        (("--broker", "mqtt://localhost"), "give --federation NAME"),
        (("--credentials", "no-such.toml"), "no-such.toml: No such file"),
        (("--federation", "a/b"), "federation name 'a/b'"),
        (("--federation", "demo", "--id", "a/b"), "--id 'a/b'"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: tuple[str, ...], says: str) -> None:
    # As people start it: by its file.
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "browser_client" / "serve.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=ENDS_WITHIN_S,
    )
    assert ended.returncode == 2 and says in ended.stderr
    assert ended.stderr.count("\n") == 1

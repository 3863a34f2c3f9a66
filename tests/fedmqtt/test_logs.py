"""The log: lines for people, or one JSON object a line whatever happens."""

import json
import re
import subprocess
import sys

from fedmqtt import logs

_PROGRAM = """
import logging
from fedmqtt import logs
logs.set_up(verbose={verbose}, as_json={as_json})
log = logging.getLogger("client.ann")
log.debug("detail")
log.info("connected to %s", "Grüße")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("two\\nlines")
print("for stdout")
raise RuntimeError("the end")
"""


def _run(*, verbose: bool, as_json: bool) -> tuple[str, str]:
    code = _PROGRAM.format(verbose=verbose, as_json=as_json)
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 1
    return run.stdout, run.stderr


def test_people_get_time_name_and_message_on_stderr() -> None:
    out, err = _run(verbose=False, as_json=False)
    assert out == "for stdout\n"
    assert re.match(r"\d\d:\d\d:\d\d client\.ann: connected to Grüße\n", err)
    assert "ZeroDivisionError" in err
    assert "detail" not in err


def test_details_come_when_they_are_asked_for() -> None:
    assert "client.ann: detail" in _run(verbose=True, as_json=False)[1]


def test_machines_get_an_object_a_line_even_of_a_crash() -> None:
    _, err = _run(verbose=False, as_json=True)
    connected, failed, crashed = (json.loads(line) for line in err.splitlines())
    assert connected.keys() == {"at", "level", "logger", "message"}
    assert (connected["level"], connected["logger"]) == ("info", "client.ann")
    assert connected["message"] == "connected to Grüße"
    # With the offset: devices of one fleet are in several time zones.
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", connected["at"])
    assert failed["message"] == "two\nlines"
    assert "ZeroDivisionError" in failed["exception"]
    assert (crashed["level"], crashed["message"]) == ("critical", "crashed")
    assert "RuntimeError: the end" in crashed["exception"]


def test_what_a_peer_wrote_can_neither_begin_a_line_nor_command_a_terminal() -> None:
    assert logs.printable("a\x1b[2Jb\r\nc Grüße °") == "a\\x1b[2Jb\\r\\nc Grüße °"
    code = (
        "import logging; from fedmqtt import logs; logs.set_up(verbose=False, as_json=False);"
        "logging.getLogger('c').info('%s says %s', 'ann', '\\x1b[31m\\n09:00:00 c: forged')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert run.stderr.count("\n") == 1 and "\x1b" not in run.stderr
    assert run.stderr.endswith("ann says \\x1b[31m\\n09:00:00 c: forged\n")

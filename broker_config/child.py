"""A broker as a child process: started, waited for, and never left behind.

A child ends when its stdin closes. That is how it is stopped, and it also happens by itself when
this process is killed, which no `finally` survives.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_READY_WITHIN_S = 20.0
_STOPS_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02
_LOG_TAIL_LINES = 10


class BrokerError(Exception):
    """There is no broker to work with; the text is a sentence for the person who wanted one."""


class PortTaken(BrokerError):
    """Another program already listens on this port."""


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: re.Pattern[str], within_s: float = _READY_WITHIN_S
) -> Iterator[re.Match[str]]:
    """Run `command` for the duration of the block, which begins once its log matches `ready`.

    Raises PortTaken or BrokerError, quoting the end of the log, if that does not happen.
    """
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            # Ctrl-C is sent to everything in our process group. The broker must still be there
            # while we say goodbye through it.
            start_new_session=True,
        ) as process,
    ):
        try:
            yield _wait_until_ready(process, log, ready, within_s)
        finally:
            _stop(process)


def _wait_until_ready(
    process: subprocess.Popen[bytes], log: Path, ready: re.Pattern[str], within_s: float
) -> re.Match[str]:
    give_up_at = time.monotonic() + within_s
    while True:
        has_ended = process.poll() is not None  # Asked before reading, to see its last words.
        text = log.read_text(encoding="utf-8", errors="replace")
        if not has_ended and (match := ready.search(text)):
            return match
        if "Address already in use" in text:
            raise PortTaken(_with_tail("The port is already in use.", text))
        if has_ended:
            raise BrokerError(_with_tail("The broker ended while starting.", text))
        if time.monotonic() > give_up_at:
            message = f"The broker was not ready within {within_s:.0f} s."
            raise BrokerError(_with_tail(message, text))
        time.sleep(_LOOK_EVERY_S)


def _with_tail(message: str, log_text: str) -> str:
    tail = "\n".join(f"  {line}" for line in log_text.splitlines()[-_LOG_TAIL_LINES:])
    return f"{message} It said:\n{tail}" if tail else f"{message} It said nothing."


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()

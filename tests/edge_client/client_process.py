"""`fedmqtt client` as a real process, whose log is read line by line."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.edge_client.jobs import LINEAR
from tests.patience import WITHIN_S


def flags(**given: str) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedmqtt", "client", *words]


class Client:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self, words: str) -> str:
        """The next line of its log with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return line
        pytest.fail(f"it ended without saying {words!r}")

    def end_by(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


@contextmanager
def client(
    url: str, federation: str, state: Path, *more: str, task: str = LINEAR
) -> Iterator[Client]:
    """Ann. Ended with the block, if she is still there."""
    words = flags(broker=url, federation=federation, id="ann", task=task, state=str(state))
    words += ["--set", "link.will_delay_s=0", "--set", "link.retry_max_s=0.2", *more]
    with subprocess.Popen(command(*words), stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield Client(process)
        finally:
            process.kill()

"""`fedmqtt dashboard` as a process, at a port of its own."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import Program, running, wait_until

_ADDRESS = re.compile(r"http://\S+/#token=\S+")


@contextmanager
def dashboard(folder: Path, broker: str, *words: str) -> Iterator[str]:
    """Yields the address that it prints."""
    if "--port" not in words:
        words = ("--port", "0", *words)
    with running(folder, "fedmqtt", "dashboard", "--broker", broker, *words) as program:
        yield address(program)


def address(program: Program) -> str:
    wait_until(lambda: "Ctrl-C" in program.said or program.process.poll() is not None)
    found = _ADDRESS.search(program.said)
    assert found is not None, program.log
    return found[0]

"""Programs of ours as processes, which never outlive the test that started them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from tests.patience import WITHIN_S


@dataclass(frozen=True, slots=True)
class Program:
    process: subprocess.Popen[bytes]
    _out: Path
    _log: Path

    @property
    def said(self) -> str:
        """What it has written to stdout so far."""
        return self._out.read_text()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(WITHIN_S)

    def wait_for(self, words: str) -> None:
        """Until its log has these words."""
        wait_until(lambda: words in self.log or self.process.poll() is not None)
        assert words in self.log, self.log


@contextmanager
def running(folder: Path, *words: str) -> Iterator[Program]:
    """`python -m WORDS`; its words go to files in `folder`. Told to end with the block."""
    number = len(list(folder.glob("program-*.log")))
    out, log = folder / f"program-{number}.out", folder / f"program-{number}.log"
    with (
        out.open("wb") as stdout,
        log.open("wb") as stderr,
        subprocess.Popen([sys.executable, "-m", *words], stdout=stdout, stderr=stderr) as process,
    ):
        try:
            yield Program(process, out, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def order(*words: str) -> None:
    """As an operator types it after `fedmqtt`; it is done when this returns."""
    given = subprocess.run(
        [sys.executable, "-m", "fedmqtt", *words, "--within", str(WITHIN_S)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert given.returncode == 0, given.stderr


def wait_until(holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """For what happens in another process, and can only be looked at."""
    give_up_at = monotonic() + within_s
    while not holds():
        assert monotonic() < give_up_at, "it did not happen in time"
        sleep(0.02)

"""Programs of ours that a demonstration or a simulation starts, and never leaves behind."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedmqtt.event_loop import EventLoop

_ENDS_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def child(name: str, folder: Path, words: Sequence[str]) -> Iterator[Child]:
    """`python WORDS`, which ends with the block, or with us however we end.

    What it says on stderr is kept in `<folder>/<name>.log`.
    """
    log = folder / f"{name}.log"
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            # The leash ends the program when its stdin closes.
            [sys.executable, "-m", "broker_config.leash", sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
        ) as process,
    ):
        yield Child(name, process, log)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(_ENDS_WITHIN_S)


def run_until_one_ends(loop: EventLoop, children: Sequence[Child]) -> Child | None:
    """Run the loop until a child ends, and return it; None when a person stopped us, or when the
    loop was stopped by what ran in it."""
    ended: list[Child] = []

    def watch(one: Child) -> None:
        assert one.process.stdout is not None
        fd = one.process.stdout.fileno()

        def on_ready(_readable: bool, _writable: bool) -> None:
            # Its words are in the run's folder too; what counts is that the pipe ends with it.
            if not os.read(fd, 65536):
                ended.append(one)
                loop.stop()

        loop.watch(fd, on_ready)

    for one in children:
        watch(one)
    loop.run()
    for one in children:
        assert one.process.stdout is not None
        loop.unwatch(one.process.stdout.fileno())
    if not ended:
        return None
    ended[0].process.wait(_ENDS_WITHIN_S)
    return ended[0]

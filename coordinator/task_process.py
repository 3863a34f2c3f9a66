"""What a task says of itself, and makes, in a process of its own: it may need torch, which the
coordinator never does.

Ctrl-C is for the coordinator: the process is of another session.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fedmqtt.effects import Seconds
from fedmqtt.settings import SettingsError

_LOOK_EVERY_S: Seconds = 0.1


class Stopped(Exception):
    """Before it was done: nobody waits for it any more."""


def run(words: Sequence[str], is_stopped: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """`python WORDS...`, and what it wrote. Raises Stopped as soon as `is_stopped`, when it has
    been killed."""
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        while True:
            try:
                said, complaint = program.communicate(timeout=_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                if not is_stopped():
                    continue
                # And what it has started.
                os.killpg(program.pid, signal.SIGKILL)
                raise Stopped from None
            if is_stopped():
                # A service manager tells all of them at once.
                raise Stopped
            return subprocess.CompletedProcess(words, program.returncode, said, complaint)


def ask(module: str, task: str) -> Any:
    """What `python -m MODULE TASK` writes as JSON. Raises SettingsError: what it said instead."""
    # The coordinator ends when this has: in a moment.
    told = subprocess.run(
        [sys.executable, "-m", module, task],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if told.returncode != 0:
        raise SettingsError(told.stderr.strip() or f"{module} ended with {told.returncode}")
    # The task may print; what is asked for is the last line.
    said = told.stdout.splitlines()[-1:]
    try:
        return json.loads("".join(said))
    except ValueError as bad:
        raise SettingsError(f"{module}: {task} prints when it ends: {said}") from bad

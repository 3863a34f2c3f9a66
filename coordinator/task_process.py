"""What a task says of itself, told by a process of its own: it may need torch, which the
coordinator never does."""

import json
import subprocess
import sys
from typing import Any

from fedmqtt.settings import SettingsError


def ask(module: str, task: str) -> Any:
    """What `python -m MODULE TASK` writes as JSON. Raises SettingsError: what it said instead."""
    # Ctrl-C is for the coordinator, which ends when this has: in a moment.
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

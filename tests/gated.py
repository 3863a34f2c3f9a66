"""A federation whose trainings end when a test says so: real programs over a real broker."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.programs import Program, running

BEFORE_TRAINING = """
import time
import numpy as np
from learning_tasks.seam import Trained

def load_data(data_dir, client, purpose):
    return data_dir, client

def wait_for_gate(data_dir, client, number, progress):
    while not (data_dir / f"{client}-{number}").exists():
        progress(0.5)
        time.sleep(0.01)

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""
"""A task begins with these lines: its `train` waits, in the middle, for the gate of this number."""


class Gated:
    """Its programs, in this folder, with what is in `[rounds]` and what else is in its file."""

    def __init__(
        self, url: str, name: str, folder: Path, *, task: str, rounds: str, more: str
    ) -> None:
        self.url = url
        self._name = name
        self.folder = folder
        self._task = folder / "gated.py"
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self._task.write_text(BEFORE_TRAINING + task)
        self.config = folder / "federation.toml"
        self.config.write_text(
            f'name = "{name}"\ntask = "{self._task}"\n{more}\n'
            "[evaluation]\nevery = 0\n[tuning]\nenabled = false\n"
            f"[rounds]\n{rounds}\ndeadline_s = 1000\naway_grace_s = 1000\n"
        )
        self.run = folder / "run"

    @contextmanager
    def coordinating(self, *words: str) -> Iterator[Program]:
        command = ("fedmqtt", "coordinator", str(self.config), "--broker", self.url)
        with running(self.folder, *command, "--run", str(self.run), *words) as program:
            yield program

    def client(self, who: str) -> AbstractContextManager[Program]:
        words = ["--broker", self.url, "--federation", self._name, "--id", who]
        words += ["--task", str(self._task), "--data", str(self.gates)]
        words += ["--state", str(self.folder / who)]
        words += ["--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5"]
        return running(self.folder, "fedmqtt", "client", *words)

    def open_gate(self, who: str, number: int) -> None:
        (self.gates / f"{who}-{number}").touch()

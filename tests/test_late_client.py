"""A client slower than its round, where late answers count: real programs, a real broker."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator import history
from coordinator.history import Record
from tests.programs import Program, running, wait_until

pytestmark = pytest.mark.broker

ROUNDS = 4
SAMPLES = {"ann": 10, "bob": 10, "cat": 60}
CHANGES = {"ann": 1.0, "bob": 1.0, "cat": 5.0}

# A training ends when its gate is there. The round is told by the model: whoever trains makes it
# older by one, so an average does too.
_TASK = f"""
import time
import numpy as np
from learning_tasks.seam import Trained

SAMPLES = {SAMPLES}
CHANGES = {CHANGES}

def initial_weights(seed):
    return {{"age": np.zeros(1, np.float32), "w": np.zeros(1, np.float32)}}

def load_data(data_dir, client, purpose):
    return data_dir, client

def train(weights, data, training, seed, progress):
    data_dir, client = data
    number = round(float(weights["age"][0])) + 1
    while not (data_dir / f"{{client}}-{{number}}").exists():
        progress(0.5)
        time.sleep(0.01)
    after = {{"age": weights["age"] + 1, "w": weights["w"] + np.float32(CHANGES[client])}}
    return Trained(after, SAMPLES[client], {{}})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


class Slow:
    """A federation in which two answers complete a round of ann, bob and cat."""

    def __init__(self, url: str, name: str, folder: Path, late: str) -> None:
        self._url = url
        self._name = name
        self._folder = folder
        self._gates = folder / "gates"
        self._gates.mkdir()
        self._task = folder / "gated.py"
        self._task.write_text(_TASK)
        self._config = folder / "federation.toml"
        self._config.write_text(
            f'name = "{name}"\ntask = "{self._task}"\n[late]\n{late}\n'
            "[evaluation]\nevery = 0\n[tuning]\nenabled = false\n"
            f"[rounds]\ncount = {ROUNDS}\ncohort = 2\nquorum = 2\nclients_min = 3\n"
            "over_selection = 1.5\ndeadline_s = 1000\naway_grace_s = 1000\n"
        )
        self.run = folder / "run"

    @contextmanager
    def coordinating(self) -> Iterator[Program]:
        command = ("fedmqtt", "coordinator", str(self._config), "--broker", self._url)
        with running(self._folder, *command, "--run", str(self.run)) as program:
            yield program

    @contextmanager
    def clients(self) -> Iterator[dict[str, Program]]:
        with ExitStack() as stack:
            yield {who: stack.enter_context(self._client(who)) for who in SAMPLES}

    def _client(self, who: str) -> AbstractContextManager[Program]:
        words = ["--broker", self._url, "--federation", self._name, "--id", who]
        words += ["--task", str(self._task), "--data", str(self._gates)]
        words += ["--state", str(self._folder / who)]
        words += ["--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5"]
        return running(self._folder, "fedmqtt", "client", *words)

    def let(self, who: str, number: int) -> None:
        """Its training for this round may end."""
        (self._gates / f"{who}-{number}").touch()

    @property
    def records(self) -> list[Record]:
        path = self.run / "history.jsonl"
        return history.read(path) if path.exists() else []

    def wait_for_round(self, number: int) -> None:
        wait_until(lambda: len(self.records) >= number)


def stepped(number: int, late: list[tuple[str, int]]) -> float:
    """How far a round moves the model: s rounds late, n samples count as n / sqrt(1 + s)."""
    weights = [(SAMPLES[who], CHANGES[who]) for who in ("ann", "bob")]
    for who, of_round in late:
        weights.append((round(SAMPLES[who] / (1 + number - of_round) ** 0.5), CHANGES[who]))
    return sum(count * change for count, change in weights) / sum(count for count, _ in weights)


@pytest.mark.parametrize(
    ("late", "counted"),
    [
        ('policy = "weigh"', {2: [("cat", 1)], 3: [("cat", 2)]}),
        ('policy = "buffer"\nbatch = 2', {3: [("cat", 1), ("cat", 2)]}),
    ],
    ids=["weigh", "buffer"],
)
def test_who_is_slower_than_its_round_goes_on_and_counts_late(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    late: str,
    counted: dict[int, list[tuple[str, int]]],
) -> None:
    federation = Slow(mosquitto_broker.url, federation_name, tmp_path, late)
    with federation.clients() as clients:
        with federation.coordinating() as coordinator:
            clients["cat"].wait_for("round 1: train")
            for who in ("ann", "bob"):
                federation.let(who, 1)
            federation.wait_for_round(1)
            for who in ("ann", "bob"):
                clients[who].wait_for("round 2: train")
            # Round 1 was withdrawn, and round 2 has begun. Cat finishes what it was at.
            federation.let("cat", 1)
            clients["cat"].wait_for("round 1 accepted")
            clients["cat"].wait_for("round 2: train")
            coordinator.process.send_signal(signal.SIGKILL)
            coordinator.process.wait()
        with federation.coordinating() as coordinator:
            for number in range(2, ROUNDS + 1):
                for who in ("ann", "bob"):
                    federation.let(who, number)
                federation.wait_for_round(number)
                if number == 2:
                    clients["ann"].wait_for("round 3: train")
                    federation.let("cat", 2)
                    clients["cat"].wait_for("round 2 accepted")
            assert coordinator.wait() == 0, coordinator.log
        log = clients["cat"].log
    assert [log.count(f"round {number}: train") for number in (1, 2)] == [1, 1], "begun only once"
    assert [record.answered for record in federation.records] == [["ann", "bob"]] * ROUNDS
    found = {record.round: record.late_counted for record in federation.records}
    assert found == {number: counted.get(number, []) for number in range(1, ROUNDS + 1)}
    moved = sum(stepped(number, counted.get(number, [])) for number in range(1, ROUNDS + 1))
    np.testing.assert_allclose(load_file(federation.run / "model.safetensors")["w"], moved, 1e-6)

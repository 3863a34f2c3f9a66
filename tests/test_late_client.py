"""A client slower than its round, where late answers count: real programs, a real broker."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.history import Record
from tests.gated import Gated
from tests.programs import Program, wait_until

pytestmark = pytest.mark.broker

ROUNDS = 4
SAMPLES = {"ann": 10, "bob": 10, "cat": 60}
CHANGES = {"ann": 1.0, "bob": 1.0, "cat": 5.0}

# A training ends when its gate is there. The round is told by the model: whoever trains makes it
# older by one, so an average does too.
_TASK = f"""
SAMPLES = {SAMPLES}
CHANGES = {CHANGES}

def initial_weights(seed):
    return {{"age": np.zeros(1, np.float32), "w": np.zeros(1, np.float32)}}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    wait_for_gate(data_dir, client, round(float(weights["age"][0])) + 1, progress)
    after = {{"age": weights["age"] + 1, "w": weights["w"] + np.float32(CHANGES[client])}}
    return Trained(after, SAMPLES[client], {{}})
"""


class Slow(Gated):
    """A federation in which two answers complete a round of ann, bob and cat."""

    def __init__(self, url: str, name: str, folder: Path, late: str) -> None:
        rounds = f"count = {ROUNDS}\ncohort = 2\nquorum = 2\nclients_min = 3\nover_selection = 1.5"
        super().__init__(url, name, folder, task=_TASK, rounds=rounds, more=f"[late]\n{late}")

    @contextmanager
    def clients(self) -> Iterator[dict[str, Program]]:
        with ExitStack() as stack:
            yield {who: stack.enter_context(self.client(who)) for who in SAMPLES}

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
                federation.open_gate(who, 1)
            federation.wait_for_round(1)
            for who in ("ann", "bob"):
                clients[who].wait_for("round 2: train")
            # Round 1 was withdrawn, and round 2 has begun. Cat finishes what it was at.
            federation.open_gate("cat", 1)
            clients["cat"].wait_for("round 1 accepted")
            clients["cat"].wait_for("round 2: train")
            coordinator.process.send_signal(signal.SIGKILL)
            coordinator.process.wait()
        with federation.coordinating() as coordinator:
            for number in range(2, ROUNDS + 1):
                for who in ("ann", "bob"):
                    federation.open_gate(who, number)
                federation.wait_for_round(number)
                if number == 2:
                    clients["ann"].wait_for("round 3: train")
                    federation.open_gate("cat", 2)
                    clients["cat"].wait_for("round 2 accepted")
            assert coordinator.wait() == 0, coordinator.log
        log = clients["cat"].log
    assert [log.count(f"round {number}: train") for number in (1, 2)] == [1, 1], "begun only once"
    assert [record.answered for record in federation.records] == [["ann", "bob"]] * ROUNDS
    found = {record.round: record.late_counted for record in federation.records}
    assert found == {number: counted.get(number, []) for number in range(1, ROUNDS + 1)}
    moved = sum(stepped(number, counted.get(number, [])) for number in range(1, ROUNDS + 1))
    np.testing.assert_allclose(load_file(federation.run / "model.safetensors")["w"], moved, 1e-6)

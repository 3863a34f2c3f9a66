"""The loop of the first federated tutorials, send, train, get, by real programs over a real broker.

Bob has (0, 0) -> 0 and (0, 1) -> 0, Alice (1, 0) -> 1 and (1, 1) -> 1; the model is a line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.history import Record
from tests.programs import Program, running

pytestmark = pytest.mark.broker

LEARNING_RATE = 0.1
DATA = {
    "alice": (np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, 1.0])),
    "bob": (np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([0.0, 0.0])),
}
TASK = """
import torch

ROWS = {
    "alice": ([[1.0, 0.0], [1.0, 1.0]], [[1.0], [1.0]]),
    "bob": ([[0.0, 0.0], [0.0, 1.0]], [[0.0], [0.0]]),
}

def build_model():
    return torch.nn.Linear(2, 1)

def load_data(data_dir, client, purpose):
    inputs, targets = ROWS[client]
    return torch.utils.data.TensorDataset(torch.tensor(inputs), torch.tensor(targets))

def loss(outputs, targets):
    return ((outputs - targets) ** 2).sum()

def metrics(outputs, targets):
    return {"squared_error": loss(outputs, targets).item()}
"""


def coordinator_of(folder: Path, name: str, url: str, visits: int) -> tuple[str, ...]:
    (folder / "toy.py").write_text(TASK)
    config = folder / "federation.toml"
    # What is a cohort's is not named: it goes by the strategy.
    config.write_text(
        f'name = "{name}"\ntask = "{folder / "toy.py"}"\nseed = 5\naggregation = "sequential"\n'
        f"training = {{ learning_rate = {LEARNING_RATE}, batch_size = 2 }}\n"
        "evaluation = { every = 0 }\n"
        f"rounds = {{ count = {visits}, retry_s = 0, away_grace_s = 0.2, deadline_s = 100 }}\n"
    )
    run = str(folder / "run")
    return ("fedmqtt", "coordinator", str(config), "--broker", url, "--run", run)


@contextmanager
def client(folder: Path, name: str, url: str, who: str) -> Iterator[Program]:
    with running(
        folder,
        *("fedmqtt", "client", "--broker", url, "--federation", name),
        *("--id", who, "--task", str(folder / "toy.py"), "--state", str(folder / who)),
        *("--set", "link.retry_max_s=0.5", "--set", "trainer.keep_warm_s=60"),
    ) as program:
        yield program


@contextmanager
def both(folder: Path, name: str, url: str) -> Iterator[Program]:
    """Alice and Bob are there; gives Bob."""
    with client(folder, name, url, "alice") as alice, client(folder, name, url, "bob") as bob:
        for one in (alice, bob):
            one.wait_for("connected")
        yield bob


def visits(folder: Path) -> list[Record]:
    return history.read(folder / "run" / "history.jsonl")


def one_step(weight: np.ndarray, bias: float, who: str) -> tuple[np.ndarray, float]:
    inputs, targets = DATA[who]
    errors = inputs @ weight + bias - targets
    return (
        weight - LEARNING_RATE * 2 * errors @ inputs,
        bias - LEARNING_RATE * 2 * float(errors.sum()),
    )


def squared_error(weight: np.ndarray, bias: float) -> float:
    return sum(float(((x @ weight + bias - y) ** 2).sum()) for x, y in DATA.values())


def test_ten_times_to_alice_and_bob_and_the_loss_has_fallen_by_an_order_of_magnitude(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    command = coordinator_of(tmp_path, federation_name, url, 20)
    with both(tmp_path, federation_name, url), running(tmp_path, *command) as coordinator:
        assert coordinator.wait() == 0, coordinator.log
    records = visits(tmp_path)
    assert [record.outcome for record in records] == ["averaged"] * 20
    order = [record.answered for record in records]
    assert {tuple(sorted((*one, *other))) for one, other in pairwise(order)} == {("alice", "bob")}
    first = load_file(tmp_path / "run" / "initial_model.safetensors")
    weight, bias = first["weight"][0].astype(float), float(first["bias"][0])
    before = squared_error(weight, bias)
    for (who,) in order:
        weight, bias = one_step(weight, bias, who)
    last = load_file(tmp_path / "run" / "model.safetensors")
    np.testing.assert_allclose(last["weight"][0], weight, atol=1e-4)
    np.testing.assert_allclose(last["bias"][0], bias, atol=1e-4)
    assert squared_error(weight, bias) < before / 10


def test_bob_vanishes_in_the_middle_of_his_visit_and_alice_goes_on(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    command = coordinator_of(tmp_path, federation_name, url, 6)
    task = tmp_path / "toy.py"
    # He thinks for as long as he is there.
    task.write_text(
        TASK.replace(
            "    inputs, targets = ROWS[client]\n",
            "    while client == 'bob' and purpose == 'train':\n"
            "        pass\n"
            "    inputs, targets = ROWS[client]\n",
        )
    )
    with both(tmp_path, federation_name, url) as bob, running(tmp_path, *command) as coordinator:
        bob.wait_for(": train")
        bob.process.kill()
        assert coordinator.wait() == 0, coordinator.log
    records = visits(tmp_path)
    lost = [record for record in records if record.outcome == "kept"]
    assert [(record.invited, record.reason) for record in lost] == [(["bob"], "the rest is away")]
    others = [record for record in records if record.outcome == "averaged"]
    assert [record.answered for record in others] == [["alice"]] * 5

"""Whole federations: a real coordinator and real clients, each a process, over a real broker."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import FederationConfig
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import settings
from tests.faults.reference import Reference
from tests.own_broker import free_port, mosquitto_at
from tests.programs import Program, running

pytestmark = pytest.mark.broker

NAMES = ("ann", "bob", "cat")
LINEAR = "learning_tasks.linear"


def write_config(folder: Path, federation: str, task: str, rounds: str) -> Path:
    path = folder / "federation.toml"
    path.write_text(
        f'name = "{federation}"\ntask = "{task}"\nseed = 3\n'
        "[evaluation]\nevery = 1\nclients = 0\nfinal_deadline_s = 100\n"
        f"[rounds]\nover_selection = 1.0\ndeadline_s = 100\nretry_s = 0\n{rounds}\n"
    )
    return path


def three_of_all(count: int) -> str:
    """Rounds in which three clients are invited and three must answer."""
    return f"count = {count}\ncohort = 3\nquorum = 3\nclients_min = 3"


def coordinator_of(config: Path, url: str, run: Path) -> tuple[str, ...]:
    return ("fedmqtt", "coordinator", str(config), "--broker", url, "--run", str(run))


@contextmanager
def clients(
    folder: Path, url: str, federation: str, task: str, *words: str
) -> Iterator[list[Program]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running(
                    folder,
                    *("fedmqtt", "client", "--broker", url, "--federation", federation),
                    *("--id", name, "--task", task, "--state", str(folder / name)),
                    *("--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5", *words),
                )
            )
            for name in NAMES
        ]


def trained(run: Path) -> list[Record]:
    """The rounds of a run that ended well: all answered, and then measured the last model."""
    *rounds, last = history.read(run / "history.jsonl")
    for record in rounds:
        assert record.outcome == "averaged" and record.answered == list(NAMES), record
    assert last.outcome == "evaluated" and last.evaluated == list(NAMES)
    return [*rounds, last]


def three_train(
    folder: Path, url: str, federation: str, task: str, count: int, *words: str
) -> list[Record]:
    """So many rounds of the three, from the coordinator's start to its end; in `folder/run`."""
    config = write_config(folder, federation, task, three_of_all(count))
    run = folder / "run"
    with (
        clients(folder, url, federation, task),
        running(folder, *coordinator_of(config, url, run), *words) as coordinator,
    ):
        assert coordinator.wait() == 0, coordinator.log
    return trained(run)


def test_three_clients_learn_a_linear_model_together(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    records = three_train(tmp_path, broker.url, federation_name, LINEAR, 3)
    # They trained and measured alike, and the model got better on their own data.
    accuracies = [one.figures.metrics["accuracy"] for one in records if one.figures is not None]
    assert len(accuracies) == 4
    assert accuracies[-1] > 0.75 > accuracies[0]
    assert all(one.figures is not None and one.figures.samples == 3 * 30 for one in records)
    model = load_file(tmp_path / "run" / "model.safetensors")
    assert {name: array.shape for name, array in model.items()} == {"weight": (4, 3), "bias": (3,)}


def test_the_same_seed_gives_the_same_model_to_the_last_bit(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    models: list[dict[str, bytes]] = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        three_train(folder, mosquitto_broker.url, f"{federation_name}-{number}", LINEAR, 2)
        model = load_file(folder / "run" / "model.safetensors")
        models.append({key: array.tobytes() for key, array in model.items()})
    assert models[0] == models[1]


def test_three_clients_train_a_torch_model_together(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    task = tmp_path / "my_task.py"
    task.write_text(
        "import torch\n"
        "CLASS_NAMES = ('below', 'above')\n"
        "def build_model():\n"
        "    return torch.nn.Linear(2, 2)\n"
        "def load_data(data_dir, client, purpose):\n"
        "    draw = torch.Generator().manual_seed(sum(map(ord, client + purpose)))\n"
        "    inputs = torch.randn(64, 2, generator=draw)\n"
        "    return torch.utils.data.TensorDataset(inputs, (inputs.sum(1) > 0).long())\n"
        "loss = torch.nn.CrossEntropyLoss()\n"
    )
    first, last = three_train(tmp_path, broker.url, federation_name, str(task), 1)
    assert first.figures is not None and last.figures is not None
    assert last.figures.metrics["accuracy"] > first.figures.metrics["accuracy"]
    model = load_file(tmp_path / "run" / "model.safetensors")
    assert model["weight"].shape == (2, 2)


def test_a_few_bits_for_each_number_make_the_model_that_they_should(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    task = tmp_path / "wide.py"
    task.write_text(
        "import torch\n"
        "CLASS_NAMES = ('below', 'above')\n"
        "def build_model():\n"
        "    return torch.nn.Linear(4000, 2)\n"
        "def load_data(data_dir, client, purpose):\n"
        "    draw = torch.Generator().manual_seed(sum(map(ord, client + purpose)))\n"
        "    inputs = torch.randn(64, 4000, generator=draw)\n"
        "    return torch.utils.data.TensorDataset(inputs, (inputs.sum(1) > 0).long())\n"
        "loss = torch.nn.CrossEntropyLoss()\n"
    )
    few_bits = ("--set", "codec=part(share=0.25) + eden + zstd")
    records = three_train(tmp_path, broker.url, federation_name, str(task), 2, *few_bits)
    run = tmp_path / "run"
    reference = Reference(settings.read(run / "federation.toml", [], FederationConfig))
    model = reference.initial
    for record in records:
        assert record.base == reference.digest(model)
        if record.answered:
            model = reference.next(model, record.round, record.answered, len(NAMES))
    # Other quarters of the numbers in each round.
    assert 8002 / 3 < np.count_nonzero(model - reference.initial) < 8002 / 2
    # Three answers of 263 bytes, instead of 32,008, and what is said beside them; the model comes
    # back to the coordinator, as long as it looks for old ones on the broker.
    first, second, _ = records
    assert second.bytes_received - first.bytes_received < 32_008 + 3 * 4000


def test_factors_of_layers_make_the_model_that_they_should(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # One round: what clients remember of it is theirs, and would be in the next.
    thin = ("--set", "codec=lowrank(rank=1)+int8")
    three_train(tmp_path, broker.url, federation_name, LINEAR, 1, *thin)
    run = tmp_path / "run"
    reference = Reference(settings.read(run / "federation.toml", [], FederationConfig))
    wanted = reference.layout.unflatten(reference.next(reference.initial, 1, NAMES, len(NAMES)))
    model = load_file(run / "model.safetensors")
    assert {name: array.tobytes() for name, array in model.items()} == {
        name: array.tobytes() for name, array in wanted.items()
    }


def test_clients_of_one_run_take_part_in_round_1_of_the_next(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR, three_of_all(2))
    with clients(tmp_path, mosquitto_broker.url, federation_name, LINEAR):
        for parent in ("first", "second"):
            # Folders of one name: it must not be what tells the runs apart.
            run = tmp_path / parent / "run"
            with running(
                tmp_path, *coordinator_of(config, mosquitto_broker.url, run)
            ) as coordinator:
                assert coordinator.wait() == 0, coordinator.log
            assert [one.round for one in trained(run)] == [1, 2, 3]


def test_a_coordinator_and_clients_that_are_there_before_their_broker_wait_for_it(
    federation_name: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    config = write_config(tmp_path, federation_name, LINEAR, three_of_all(1))
    run = tmp_path / "run"
    with (
        running(tmp_path, *coordinator_of(config, url, run)) as coordinator,
        clients(tmp_path, url, federation_name, LINEAR) as those,
    ):
        for program in (coordinator, *those):
            program.wait_for(f"cannot reach {url}")
        with mosquitto_at(port):
            assert coordinator.wait() == 0, coordinator.log
    trained(run)


def test_a_broker_that_is_killed_in_the_middle_of_a_round_costs_no_answer(
    federation_name: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    config = write_config(tmp_path, federation_name, LINEAR, three_of_all(1))
    run = tmp_path / "run"
    # They train until the broker is dead: each epoch looks whether it is time to end.
    task = tmp_path / "patient.py"
    killed = tmp_path / "killed"
    task.write_text(
        "import pathlib, time\n"
        "from learning_tasks.linear import evaluate, initial_weights, load_data\n"
        "from learning_tasks import linear\n"
        "def train(*arguments):\n"
        f"    while not pathlib.Path({str(killed)!r}).exists():\n"
        "        time.sleep(0.01)\n"
        "    return linear.train(*arguments)\n"
    )
    config.write_text(config.read_text().replace(LINEAR, str(task)))
    with (
        running(tmp_path, *coordinator_of(config, url, run)) as coordinator,
        clients(tmp_path, url, federation_name, str(task)) as those,
    ):
        with mosquitto_at(port):
            for client in those:
                client.wait_for("round 1: train")
        killed.touch()
        for program in (coordinator, *those):
            program.wait_for("lost")
        with mosquitto_at(port):
            assert coordinator.wait() == 0, coordinator.log
    trained(run)


def test_a_client_without_the_right_task_is_told_of_and_not_waited_for(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR, three_of_all(1))
    run = tmp_path / "run"
    words = ("--broker", mosquitto_broker.url, "--federation", federation_name)
    other = ("--id", "odd", "--task", "learning_tasks.starter_task", "--state", str(tmp_path / "o"))
    with (
        running(tmp_path, "fedmqtt", "client", *words, *other),
        clients(tmp_path, mosquitto_broker.url, federation_name, LINEAR),
        running(
            tmp_path, *coordinator_of(config, mosquitto_broker.url, run), "--json-logs"
        ) as coordinator,
    ):
        assert coordinator.wait() == 0, coordinator.log
    records = trained(run)
    assert all("odd" not in record.invited + record.evaluated for record in records)
    assert all(json.loads(line) for line in coordinator.log.splitlines())

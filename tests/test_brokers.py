"""A whole federation on each broker that can be had: what its rounds need, it gives."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from tests.programs import running, wait_until
from tests.test_federation import (
    LINEAR,
    clients,
    coordinator_of,
    three_of_all,
    trained,
    write_config,
)

pytestmark = pytest.mark.broker


def _model(run: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(run / "model.safetensors").items()}


def test_a_coordinator_that_comes_last_finds_its_clients_and_they_learn(
    any_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR, three_of_all(3))
    run = tmp_path / "run"
    with clients(tmp_path, any_broker.url, federation_name, LINEAR) as those:
        for client in those:
            client.wait_for("connected")
        with running(tmp_path, *coordinator_of(config, any_broker.url, run)) as coordinator:
            assert coordinator.wait() == 0, coordinator.log
    where = ("--broker", any_broker.url, "--federation", federation_name)
    with running(tmp_path, "fedmqtt", "watch", "--once", *where) as watch:
        assert watch.wait() == 0, watch.log
        assert "on 90 samples of 3 clients" in watch.said
    accuracies = [
        one.figures.metrics["accuracy"] for one in trained(run) if one.figures is not None
    ]
    assert accuracies[-1] > 0.75 > accuracies[0]


def test_a_coordinator_that_is_killed_twice_makes_the_model_that_it_would_have_made(
    any_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    models = []
    for kills in (0, 2):
        folder, name = tmp_path / str(kills), f"{federation_name}-{kills}"
        folder.mkdir()
        config = write_config(folder, name, LINEAR, three_of_all(6))
        run = folder / "run"
        command = coordinator_of(config, any_broker.url, run)
        with clients(folder, any_broker.url, name, LINEAR), ExitStack() as stack:
            coordinator = stack.enter_context(running(folder, *command))
            for rounds in range(1, kills + 1):
                wait_until(partial(_has_closed, run, rounds))
                coordinator.process.kill()
                coordinator.wait()
                coordinator = stack.enter_context(running(folder, *command))
            assert coordinator.wait() == 0, coordinator.log
        trained(run)
        models.append(_model(run))
    assert models[0] == models[1]


def _has_closed(run: Path, rounds: int) -> bool:
    path = run / "history.jsonl"
    return path.exists() and len(history.read(path)) >= rounds

"""Whole federations with workers: the same model, to the last bit, whoever adds the answers up."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from tests.programs import Program, running
from tests.test_federation import (
    LINEAR,
    clients,
    coordinator_of,
    three_of_all,
    three_train,
    trained,
    write_config,
)

pytestmark = pytest.mark.broker

_WORKERS = "\n[workers]\nlanes = 16\nhand_over_s = 0.2\n"


def model_of(run: Path) -> dict[str, bytes]:
    return {name: each.tobytes() for name, each in load_file(run / "model.safetensors").items()}


def write_with_workers(folder: Path, federation: str, count: int, more: str = "") -> Path:
    config = write_config(folder, federation, LINEAR, three_of_all(count))
    config.write_text(config.read_text() + _WORKERS + more)
    return config


@contextmanager
def workers(folder: Path, config: Path, url: str, *names: str) -> Iterator[list[Program]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running(
                    folder,
                    *("fedmqtt", "worker", str(config), "--broker", url, "--name", name),
                    "--verbose",
                )
            )
            for name in names
        ]


def added_up(worker: Program) -> int:
    """By a worker that has ended."""
    return int(worker.said.split(" ", 1)[0])


@pytest.mark.parametrize("count", [1, 2])
def test_workers_make_the_model_that_the_coordinator_makes_alone(
    count: int, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir()
    shared.mkdir()
    three_train(alone, broker.url, f"{federation_name}-alone", LINEAR, 3)

    config = write_with_workers(shared, federation_name, 3)
    run = shared / "run"
    with workers(shared, config, broker.url, *[f"w{one}" for one in range(count)]) as there:
        with running(shared, *coordinator_of(config, broker.url, run)) as coordinator:
            for worker in there:
                worker.wait_for("listening to")
            with clients(shared, broker.url, federation_name, LINEAR):
                assert coordinator.wait() == 0, coordinator.log
        for worker in there:
            worker.process.terminate()
            assert worker.wait() == 0, worker.log
    trained(run)
    assert model_of(run) == model_of(alone / "run")
    # All of them by workers, and by each of them some.
    assert sum(map(added_up, there)) == 3 * 3
    assert all(map(added_up, there))

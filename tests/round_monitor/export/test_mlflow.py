"""`fedmqtt export mlflow`, read back by MLflow's own client from its local store."""

import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from broker_config.local_broker import RunningBroker
from round_monitor.export.mlflow import RUN_TAG, SETTINGS, Curves
from tests.programs import running, wait_until
from tests.round_monitor import pages
from tests.round_monitor.export import growing_run
from tests.round_monitor.export.growing_run import Points


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "mlruns"


@pytest.fixture
def client(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(str(store))


def _read(client: MlflowClient, federation: str) -> dict[str, Points]:
    """By run; each number as often as it is there."""
    experiment = client.get_experiment_by_name(federation)
    if experiment is None:
        return {}
    return {
        run.data.tags[RUN_TAG]: {
            name: sorted(
                (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        for run in client.search_runs([experiment.experiment_id])
    }


def test_each_round_is_a_step_of_each_metric(client: MlflowClient) -> None:
    curves = Curves(client, "ward-7")
    for last in (1, 3):
        curves.take("run.7", growing_run.lines(1, last), pages.coordinator())
    curves.take("run.8", growing_run.lines(1, 1), pages.coordinator())
    curves.take("", [], None)
    assert _read(client, "ward-7") == {
        "run.7": growing_run.points(growing_run.lines(1, 3)),
        "run.8": growing_run.points(growing_run.lines(1, 1)),
    }


def test_a_batch_that_came_by_half_is_completed_and_not_doubled(client: MlflowClient) -> None:
    curves = Curves(client, "ward-7")
    curves.take("run.7", growing_run.lines(1, 1), None)
    (experiment,) = [one for one in client.search_experiments() if one.name == "ward-7"]
    (run,) = client.search_runs([experiment.experiment_id])
    # Of round 2, all that had come when somebody pulled the plug.
    client.log_batch(run.info.run_id, metrics=[Metric("train/loss", 1 / 2, 0, 2)])
    Curves(client, "ward-7").take("run.7", growing_run.lines(1, 3), None)
    assert _read(client, "ward-7") == {"run.7": growing_run.points(growing_run.lines(1, 3))}


@pytest.mark.broker
def test_a_program_that_is_killed_and_started_again_doubles_nothing(
    broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    store: Path,
    client: MlflowClient,
) -> None:
    words = [
        *("fedmqtt", "export", "mlflow", "--tracking-uri", str(store)),
        *("--broker", broker.url, "--federation", federation_name),
    ]

    def has(last: int) -> bool:
        wanted = growing_run.points(growing_run.lines(1, last))
        return store.exists() and _read(client, federation_name) == {"run.7": wanted}

    pages.publish(broker.url, federation_name, growing_run.told("run.7", 3))
    with running(tmp_path, *words) as program:
        wait_until(lambda: has(3))
        program.process.send_signal(signal.SIGKILL)
    pages.publish(broker.url, federation_name, growing_run.told("run.7", 5))
    with running(tmp_path, *words) as program:
        wait_until(lambda: has(5))
    assert program.wait() == 0, program.log
    assert has(5)


def test_a_store_that_cannot_be_is_named_in_a_sentence(tmp_path: Path) -> None:
    words = ("--tracking-uri", "ftp://nobody", "--broker", "mqtt://127.0.0.1:1")
    with running(tmp_path, "fedmqtt", "export", "mlflow", "--federation", "f", *words) as program:
        assert program.wait() == 1
    assert program.log.splitlines()[-1].startswith("fedmqtt export mlflow: ftp://nobody: ")


def test_a_folder_that_cannot_be_made_ends_it(tmp_path: Path) -> None:
    words = ("--tracking-uri", "/proc/nope", "--broker", "mqtt://127.0.0.1:1", "--federation", "f")
    with running(tmp_path, "fedmqtt", "export", "mlflow", *words) as program:
        assert program.wait() == 1
    assert program.log.splitlines()[-1] == (
        "fedmqtt export mlflow: /proc/nope: No such file or directory; give --tracking-uri a folder"
        " that can be made"
    )


@pytest.mark.broker
def test_a_store_that_is_away_is_told_of_and_ends_nothing(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    pages.publish(mosquitto_broker.url, federation_name, growing_run.told("run.7", 3))
    words = [
        *("--tracking-uri", "http://127.0.0.1:1", "--broker", mosquitto_broker.url),
        *("--federation", federation_name),
    ]
    with running(tmp_path, "fedmqtt", "export", "mlflow", *words) as program:
        program.wait_for("export.mlflow: http://127.0.0.1:1: ")
        assert program.process.poll() is None
    assert program.wait() == 0

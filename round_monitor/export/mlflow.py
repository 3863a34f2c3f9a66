"""MLflow: each closed round's figures in a tracking server or a local store, the round as step.

The federation is an experiment, and a run of it a run there, found again by its tag `fedmqtt.run`.
Started again, it goes on where it was. Rounds that closed while it did not run are written as long
as the history page tells of them, which is of the last 100.
"""

import argparse
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.status_pages import CoordinatorPage, RoundLine
from round_monitor import closed_rounds
from round_monitor.exporting import WATCHERS, ExportError, Following

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

ROLES = WATCHERS
EXTRA = "mlflow"

RUN_TAG = "fedmqtt.run"
_AT_ONCE = 1000
"""Metrics in one request: MLflow's own limit."""
_AGAIN_IN_S = 30.0

SETTINGS = {
    # It would tell its makers of each use.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # While a store does not answer, nobody answers the broker. What failed is tried again anyway.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Else it refuses folders, which are all that a client without a database can use by itself.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""Of MLflow, unless its owner sets them in the environment."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="as MLflow has it: http://host:5000, or a folder (without: MLFLOW_TRACKING_URI)",
    )


def run(federation: str, broker: BrokerUrl, arguments: argparse.Namespace) -> None:
    """Raises ExportError, and ValueError where no store is named."""
    uri = arguments.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise ValueError("give --tracking-uri, like http://localhost:5000, or a folder")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri)
        if "://" not in uri:
            # A folder that cannot be will not be later, as a server may.
            client.search_experiments(max_results=1)
        curves = Curves(client, federation)
    except OSError as bad:
        why = f"{bad.strerror or _first_line(bad)}; give --tracking-uri a folder that can be made"
        raise ExportError(f"{uri}: {why}") from bad
    except MlflowException as bad:
        raise ExportError(f"{uri}: {_first_line(bad)}") from bad
    again_at = 0.0

    def on_page(_name: str) -> None:
        nonlocal again_at
        board = following.board
        if time.monotonic() < again_at:
            return
        try:
            curves.take(*closed_rounds.closed(board), board.coordinator)
        except (MlflowException, OSError) as bad:
            # A page comes each minute at least, and brings what is not written yet.
            again_at = time.monotonic() + _AGAIN_IN_S
            _log.warning("%s: %s", uri, _first_line(bad))

    following = Following(federation, broker, on_page)
    following.run()


def _first_line(bad: Exception) -> str:
    return str(bad).partition("\n")[0]


class Curves:
    """Writes rounds, each number once. Raises what MLflow does; then nothing is taken for written
    that may not be."""

    def __init__(self, client: "MlflowClient", federation: str) -> None:
        self._client = client
        self._federation = federation
        self._run = ""
        self._run_id = ""
        self._written: set[tuple[str, int]] = set()
        """Names and steps, of this run."""

    def take(
        self, run: str, lines: Iterable[RoundLine], coordinator: CoordinatorPage | None
    ) -> None:
        if not run:
            return
        if run != self._run:
            self._run = ""
            self._run_id = self._found(run, coordinator)
            self._written = set(self._found_in(self._run_id))
            self._run = run
        try:
            self._write(lines)
        except Exception:
            # Some of it may have come.
            self._run = ""
            raise

    def _write(self, lines: Iterable[RoundLine]) -> None:
        from mlflow.entities import Metric

        # Milliseconds of the day's clock, as MLflow has them. A page does not say when a round
        # closed.
        now = int(time.time() * 1000)  # noqa: TID251
        new = [
            Metric(name, value, now, line.round)
            for line in lines
            for name, value in closed_rounds.numbers(line).items()
            if (name, line.round) not in self._written
        ]
        for first in range(0, len(new), _AT_ONCE):
            some = new[first : first + _AT_ONCE]
            self._client.log_batch(self._run_id, metrics=some)
            self._written.update((one.key, one.step) for one in some)

    def _found(self, run: str, coordinator: CoordinatorPage | None) -> str:
        """MLflow's id of this run, new where there is none."""
        client = self._client
        experiment = client.get_experiment_by_name(self._federation)
        experiment_id: str = (
            client.create_experiment(self._federation)
            if experiment is None
            else experiment.experiment_id
        )
        found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {RUN_TAG: run}
        if coordinator is not None:
            tags |= {"fedmqtt.task": coordinator.task, "fedmqtt.version": coordinator.version}
        return str(client.create_run(experiment_id, tags=tags, run_name=run).info.run_id)

    def _found_in(self, run_id: str) -> Iterator[tuple[str, int]]:
        """What earlier programs wrote there, perhaps not to the end."""
        for name in self._client.get_run(run_id).data.metrics:
            for metric in self._client.get_metric_history(run_id, name):
                yield name, metric.step

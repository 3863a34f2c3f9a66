"""Describe the data of a federation's clients without collecting it: how many samples there are,
and of each feature mean, deviation, quantiles and histogram.

Each client sums up over its own samples, and the sums over all clients are told: no value of a
single sample, and nothing where fewer clients have a feature than `statistics.clients_min`. The
coordinator receives each client's sums, as it does updates. A client takes part whose owner allows
it: with purposes = ["train", "evaluate", "describe"] in its settings.

The task names its features (docs/statistics.md). Stopped and started again, it goes on.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from coordinator import command
from coordinator.command import Job
from coordinator.config import FederationConfig
from coordinator.persistence import history
from coordinator.service import Service
from coordinator.statistics import findings, job, table

_log = logging.getLogger("coordinator")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_arguments(parser)
    parser.add_argument(
        "--json", action="store_true", help="write the findings to stdout as one JSON object"
    )


def run(arguments: argparse.Namespace) -> int:
    report = partial(_report, as_json=arguments.json)
    return command.run_job(
        arguments, job.settle, Job("statistics", "describe", _first_questions, report)
    )


def _first_questions(
    config: FederationConfig, folder: Path, _is_stopped: Callable[[], bool]
) -> command.Model:
    questions = job.first_questions(config)
    _log.info(
        "waiting for %d clients whose owners allow it: with describe among their purposes",
        config.rounds.clients_min,
    )
    return questions


def _report(service: Service, config: FederationConfig, folder: Path, *, as_json: bool) -> int:
    """The findings are in the run's folder too."""
    rounds = folder / "history.jsonl"
    found = findings.findings(
        federation=config.name,
        task=config.task,
        run=folder.name,
        layout=service.layout,
        memory=service.remembered,
        records=history.read(rounds) if rounds.exists() else [],
        categories=job.features(config.task),
        settings=config.statistics,
    )
    if found is None:
        sys.stderr.write(
            f"fedmqtt statistics: in no round {config.statistics.clients_min} clients answered:"
            " nothing is told of fewer (statistics.clients_min)\n"
        )
        return 1
    (folder / findings.FILE_NAME).write_bytes(found.to_json() + b"\n")
    if as_json:
        sys.stdout.write(found.to_json().decode() + "\n")
        return 0
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    told = table.lines(found, ascii_only=encoding != "utf8")
    sys.stdout.write("\n".join([*told, f"findings: {folder / findings.FILE_NAME}"]) + "\n")
    return 0

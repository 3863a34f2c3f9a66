"""Evaluate a model on the data of a federation's clients, without training it.

All clients that are willing to evaluate are asked, once: those that are away have
`evaluation.final_deadline_s` to come. What they measured is told of all, of each kind of device
(`label` in the clients' settings), and how it differs from client to client.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from msgspec import structs

from coordinator import command
from coordinator.command import Job
from coordinator.commands import figures_table
from coordinator.config import FederationConfig
from coordinator.persistence import history
from coordinator.service import Service
from fedmqtt.settings import SettingsError

FOLDER = "evaluations"
"""Below `runs`: the training that goes on there must not be taken for this, nor this for it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_arguments(parser)
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="a safetensors file of the task's model, such as a run's model.safetensors;"
        " else `initial_model`, else the untrained one",
    )
    parser.add_argument(
        "--clients", type=int, default=0, metavar="N", help="ask N clients, drawn at random"
    )


def run(arguments: argparse.Namespace) -> int:
    settle = partial(_settled, model=arguments.model, clients=arguments.clients)
    return command.run_job(
        arguments, settle, Job("evaluate", "evaluate", command.initial_model, _report)
    )


def _settled(config: FederationConfig, *, model: str | None, clients: int) -> FederationConfig:
    if clients < 0:
        raise SettingsError(f"--clients {clients}: expected 1 or more, or 0 for all")
    if model == "":
        raise SettingsError("--model is empty: give the model's file, or leave --model out")
    return structs.replace(
        config,
        runs=f"{config.runs}/{FOLDER}",
        initial_model=config.initial_model if model is None else model,
        evaluation=structs.replace(config.evaluation, every=1, clients=clients),
    )


def _report(service: Service, config: FederationConfig, folder: Path) -> int:
    figures = service.totals.figures
    if figures is None:
        sys.stderr.write("fedmqtt evaluate: no client has measured the model\n")
        return 1
    asked = history.read(folder / "history.jsonl")[-1]
    lines = [
        f"measured by {len(asked.evaluated)} clients"
        + (f", {len(asked.declined)} declined" if asked.declined else ""),
        *(f"  {line}".rstrip() for line in figures_table.lines(figures)),
        f"figures and model: {folder}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0

"""Run a federation's rounds: invite clients, collect their answers, average them, repeat.

federation.toml holds the settings; `fedmqtt init` writes one with all of them. Each run makes a
folder of its own with the model (safetensors), the history of its rounds (JSON lines) and the
settings it ran with.
"""

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs

from coordinator import aggregation, checkpoint, selection
from coordinator.checkpoint import CheckpointError
from coordinator.config import FederationConfig
from coordinator.service import Service
from fedmqtt import codecs, parts, settings
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import BrokerUrlError, parse_broker_url
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the federation's settings, a TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, like rounds.count=5; may be repeated",
    )
    parser.add_argument("--broker", help="override broker.url")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="this run's folder; else a new one in `runs`"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings in force, and end"
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        config = _config(arguments)
        if arguments.print_config:
            sys.stdout.write(settings.render(with_strategy_settings(config)))
            return 0
        folder = _run_folder(config, arguments.run)
        layout, flat = _initial_model(config, folder)
        loop = EventLoop()
        loop.stop_on_signals()
        service = Service(loop, config, layout, flat, folder)
    except (SettingsError, BrokerUrlError, CheckpointError) as bad:
        sys.stderr.write(f"fedmqtt coordinator: {bad}\n")
        return 2
    try:
        service.run()
    except OSError as bad:
        sys.stderr.write(f"fedmqtt coordinator: {bad}; the run has ended\n")
        return 1
    loop.close()
    _report(service, folder)
    if not service.is_finished:
        return 130
    return 0 if service.has_learned else 1


def check(config: FederationConfig) -> None:
    """What no single setting can tell. Raises SettingsError or BrokerUrlError."""
    parse_broker_url(config.broker.url)
    for key, folder in (("codec", codecs), ("selection", selection), ("aggregation", aggregation)):
        if getattr(config, key) not in (known := parts.names(folder)):
            raise SettingsError(
                f"{key}: there is no {getattr(config, key)!r}; choose one of: {', '.join(known)}"
            )
    if config.rounds.quorum > config.rounds.cohort:
        raise SettingsError(
            f"rounds.quorum is {config.rounds.quorum}, more than rounds.cohort ="
            f" {config.rounds.cohort}: no round could ever make a model"
        )


def _config(arguments: argparse.Namespace) -> FederationConfig:
    overrides = list(arguments.set)
    if arguments.broker is not None:
        overrides.append(settings.override("broker.url", arguments.broker))
    config = settings.read(arguments.config, overrides, FederationConfig)
    check(config)
    return config


def with_strategy_settings(config: FederationConfig) -> FederationConfig:
    """The same, with what the chosen strategy takes and its defaults. Raises SettingsError."""
    kind = parts.load(aggregation, config.aggregation).Settings
    found = settings.convert(config.aggregation_settings, kind, "aggregation_settings")
    return structs.replace(config, aggregation_settings=msgspec.to_builtins(found))


def _run_folder(config: FederationConfig, chosen: Path | None) -> Path:
    folder = chosen
    if folder is None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        folder = Path(config.runs) / f"{config.name}-{stamp}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "history.jsonl").exists() or (folder / "federation.toml").exists():
            raise SettingsError(
                f"{folder} holds a run or its settings; choose another folder with --run"
            )
        # Without the broker's password: run folders are shown around.
        broker = structs.replace(config.broker, url=str(parse_broker_url(config.broker.url)))
        settled = structs.replace(with_strategy_settings(config), broker=broker)
        (folder / "federation.toml").write_text(settings.render(settled))
    except OSError as bad:
        raise SettingsError(f"run folder {folder}: {bad.strerror}") from bad
    return folder


def _initial_model(config: FederationConfig, folder: Path) -> tuple[Layout, Array]:
    if config.initial_model:
        return checkpoint.load(Path(config.initial_model))
    # In a process of its own: the task may need torch, which the coordinator never does.
    out = folder / "initial_model.safetensors"
    words = ["-m", "learning_tasks.initial_model", config.task, "--seed", str(config.seed)]
    made = subprocess.run(
        [sys.executable, *words, "--out", str(out)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise SettingsError(f"no initial model: {made.stderr.strip() or made.returncode}")
    return checkpoint.load(out)


def _report(service: Service, folder: Path) -> None:
    totals = service.totals
    done = "finished" if service.is_finished else "stopped"
    figures = totals.figures
    lines = [
        f"{done} after {totals.rounds} rounds: {totals.answered} of {totals.invited} invited"
        f" answered, {totals.dropped} dropped, {totals.rejected} rejected, {totals.late} late",
        *(f"  {name} {value:.4f}" for name, value in (figures.metrics if figures else {}).items()),
        f"model and history: {folder}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")

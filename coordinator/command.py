"""Run a federation's rounds: invite clients, collect their answers, average them, repeat.

federation.toml holds the settings; `fedmqtt init` writes one with all of them. Each run makes a
folder of its own with the model (safetensors), the history of its rounds (JSON lines) and the
settings it began with. Stopped or killed and started again, the coordinator goes on with the newest
run that is not finished, in the same round, with the answers it had.
"""

import argparse
import logging
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import structs

from coordinator import aggregation, checkpoint, ledger, selection
from coordinator.checkpoint import CheckpointError
from coordinator.config import FederationConfig
from coordinator.ledger import LedgerDamaged, LedgerError
from coordinator.service import RunElsewhere, SeatTaken, Service
from fedmqtt import codecs, parts, settings
from fedmqtt.event_loop import EventLoop
from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.mqtt_link import BrokerUrlError, parse_broker_url
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout

WHAT_TO_DO = "wait for its end with --standby, or begin another run with --new"
_LOOK_EVERY_S = 0.5
_STOPPED = 130
"""Exit code after a signal, as shells have it for Ctrl-C."""
_STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?")

_log = logging.getLogger("coordinator")


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
        "--run",
        type=Path,
        metavar="DIR",
        help="this run's folder; else the newest unfinished one in `runs`, else a new one",
    )
    parser.add_argument(
        "--new", action="store_true", help="begin a new run, whatever is unfinished"
    )
    parser.add_argument(
        "--standby",
        action="store_true",
        help="wait while another coordinator runs the federation, and take over when it is gone",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings in force, and end"
    )


def run(arguments: argparse.Namespace) -> int:
    loop = EventLoop()
    loop.stop_on_signals()
    try:
        config = _config(arguments)
        if arguments.print_config:
            sys.stdout.write(settings.render(with_strategy_settings(config)))
            return 0
        return _coordinate(loop, config, arguments)
    except (SettingsError, BrokerUrlError, CheckpointError, LedgerError, SeatTaken) as bad:
        sys.stderr.write(f"fedmqtt coordinator: {bad}\n")
        return 2
    finally:
        loop.close()


def _coordinate(loop: EventLoop, config: FederationConfig, arguments: argparse.Namespace) -> int:
    """Exit code of the program."""
    while (place := _place(loop, config, arguments)) is not None:
        try:
            return _run_in(place, _service(loop, config, place, arguments))
        except RunElsewhere:
            if loop.stop_signal is not None:
                break
            # It is found now, and its lock waited for.
        finally:
            _leave(place)
    return _STOPPED


def _run_in(place: "_Place", service: Service) -> int:
    try:
        service.run()
    except LedgerDamaged:
        raise
    except (OSError, LedgerError) as bad:
        sys.stderr.write(f"fedmqtt coordinator: {bad}\n")
        if service.has_begun:
            sys.stderr.write(
                "nothing that was received is lost: start it again when that is mended, and the"
                f" run in {place.folder} goes on\n"
            )
        return 1
    _report(service, place.folder)
    if not service.is_finished:
        return _STOPPED
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


@dataclass(frozen=True, slots=True)
class _Place:
    """A run's folder, which is this program's alone for as long as it lives."""

    folder: Path
    lock: FolderLock
    goes_on: bool
    is_ours: bool
    """Named and made by us: not a folder that a person chose, in which more may lie."""


def _place(
    loop: EventLoop, config: FederationConfig, arguments: argparse.Namespace
) -> _Place | None:
    """None when the wait for another coordinator's end was broken off."""
    if arguments.new and arguments.standby:
        raise SettingsError("--new begins a run and --standby goes on with one: give one of them")
    while True:
        folder, goes_on = _choose_folder(config, arguments)
        try:
            lock = _locked(folder)
        except FolderInUse as used:
            if not arguments.standby:
                raise SettingsError(f"{used}: {WHAT_TO_DO}") from used
            if not _wait_for(loop, folder, used):
                return None
            continue
        # It may have come to its end while its lock was waited for.
        if goes_on and not ledger.is_unfinished(folder):
            lock.release()
            raise SettingsError(f"the run in {folder} is finished: there is nothing to take over")
        return _Place(folder, lock, goes_on, is_ours=not goes_on and arguments.run is None)


def _leave(place: _Place) -> None:
    if place.is_ours and not ledger.has_begun(place.folder):
        # Nothing is in it that anybody would look for.
        shutil.rmtree(place.folder, ignore_errors=True)
    place.lock.release()


def _locked(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except OSError as bad:
        raise SettingsError(f"run folder {folder}: {bad.strerror}") from bad


def _wait_for(loop: EventLoop, folder: Path, used: FolderInUse) -> bool:
    """Until its lock may be free. False if a person does not want to wait any more."""
    _log.info("standing by: %s", used)
    while loop.stop_signal is None:
        loop.run_once(wait_max_s=_LOOK_EVERY_S)
        with suppress(FolderInUse):
            _locked(folder).release()
            return True
    return False


def _choose_folder(config: FederationConfig, arguments: argparse.Namespace) -> tuple[Path, bool]:
    """Which, and whether the run in it goes on."""
    chosen: Path | None = arguments.run
    if chosen is not None:
        if ledger.is_unfinished(chosen):
            if arguments.new:
                raise SettingsError(f"{chosen} holds an unfinished run; --new needs another folder")
            return chosen, True
        held = [(chosen / name).exists() for name in ("history.jsonl", "federation.toml")]
        if any(held) or ledger.has_begun(chosen):
            raise SettingsError(
                f"{chosen} holds a finished run, or settings; choose another folder with --run"
            )
        return chosen, False
    if not arguments.new and (newest := _newest_unfinished(config)) is not None:
        return newest, True
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name, number = f"{config.name}-{stamp}", 1
    while (folder := Path(config.runs) / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder, False


def _newest_unfinished(config: FederationConfig) -> Path | None:
    found = [
        folder
        for folder in Path(config.runs).glob(f"{config.name}-*")
        # A run of "a-b" is none of "a".
        if _STAMP.fullmatch(folder.name.removeprefix(config.name)) and ledger.is_unfinished(folder)
    ]
    return max(found, key=lambda folder: folder.name, default=None)


def _service(
    loop: EventLoop, config: FederationConfig, place: _Place, arguments: argparse.Namespace
) -> Service:
    folder = place.folder
    # Without the broker's password: run folders are shown around.
    broker = structs.replace(config.broker, url=str(parse_broker_url(config.broker.url)))
    settled = settings.render(structs.replace(with_strategy_settings(config), broker=broker))
    try:
        initial = None if place.goes_on else _initial_model(config, folder)
        service = Service(
            loop,
            config,
            initial,
            folder,
            standby=arguments.standby,
            on_begin=lambda: _keep_settings(folder, settled),
            # Who asked for a new run, or for one in this folder, shall have it.
            is_elsewhere=lambda: (
                place.is_ours and not arguments.new and _newest_unfinished(config) is not None
            ),
        )
        if place.goes_on:
            _keep_settings(folder, settled)
    except OSError as bad:
        raise SettingsError(f"run folder {folder}: {bad.strerror}") from bad
    return service


def _keep_settings(folder: Path, settled: str) -> None:
    """Those that the run began with."""
    if not (path := folder / "federation.toml").exists():
        path.write_text(settled)


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
    if not service.has_begun:
        sys.stdout.write("stopped before the run began\n")
        return
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

"""Run a federation's rounds: invite clients, collect their answers, average them, repeat.

federation.toml holds the settings; `fedmqtt init` writes one with all of them. Each run makes a
folder of its own with the model (safetensors), the history of its rounds (JSON lines) and the
settings it began with. Stopped or killed and started again, the coordinator goes on with the newest
run that is not finished, in the same round, with the answers it had.
"""

import argparse
import logging
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import structs

from coordinator import aggregation, checks, one_at_a_time, round_rules, task_process
from coordinator.commands import figures_table
from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust, trust_of
from coordinator.masking import masked_measures, privacy_checks
from coordinator.models import checkpoint, object_store
from coordinator.models.checkpoint import CheckpointError
from coordinator.models.object_store import ObjectStore
from coordinator.persistence import earlier_runs, ledgers, moved_ledger, run_search
from coordinator.persistence.ledgers import Ledgers
from coordinator.persistence.run_errors import (
    LedgerDamaged,
    LedgerError,
    LedgerTaken,
    ObjectStoreError,
    RunInUse,
)
from coordinator.persistence.run_place import Place
from coordinator.seat_keeper import SeatTaken
from coordinator.service import BUDGET_USED_UP, Denied, KeysWanted, RunElsewhere, Service
from coordinator.task_process import Stopped
from fedmqtt import credentials, parts, settings
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.credentials import CredentialsError
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Purpose
from fedmqtt.mqtt_link import (
    BrokerUrl,
    BrokerUrlError,
    parse_broker_url,
    plaintext_fault,
    without_password,
)
from fedmqtt.revocations import Revocations, RevocationsError
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout

WHAT_TO_DO = "Stop that one, or wait for its end with --standby"
_LOOK_EVERY_S = 0.5
_STOPPED = 130
"""Exit code after a signal, as shells have it for Ctrl-C."""
_BEFORE_IT_BEGAN = "stopped before the run began\n"

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
    parser.add_argument("--credentials", metavar="FILE", help="override broker.credentials")
    parser.add_argument("--revoked", metavar="FILE", help="override broker.revoked")
    parser.add_argument(
        "--insecure", action="store_true", help="also unencrypted, in a network that you trust"
    )
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
        help="wait while another coordinator runs the federation, and take over when it is gone;"
        " where the last run is finished, wait for the next one",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings in force, without the broker's password, and end",
    )


Model = tuple[Layout, Array]


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is for, what it starts from, and what is told of it in the end."""

    command: str
    purpose: Purpose
    begin: Callable[[FederationConfig, Path, Callable[[], bool]], Model]
    """A new run in this folder starts from this. It is asked whether a person has stopped the
    program. Raises SettingsError, CheckpointError, Stopped."""
    report: Callable[[Service, FederationConfig, Path], int]
    """Writes what came of it; the exit code of a run that is finished."""


def run(arguments: argparse.Namespace) -> int:
    return run_job(
        arguments, lambda config: config, Job("coordinator", "train", initial_model, _report)
    )


def run_job(
    arguments: argparse.Namespace,
    settle: Callable[[FederationConfig], FederationConfig],
    job: Job,
) -> int:
    """Exit code of a command whose settings are those that `settle` makes of the file's."""
    loop = EventLoop()
    loop.stop_on_signals()
    try:
        config, broker, trust, revocations = _config(arguments)
        config = settle(config)
        if arguments.print_config:
            sys.stdout.write(settings.render(_shown(with_strategy_settings(config))))
            return 0
        privacy_checks.check_job(config, job.purpose)
        privacy_checks.check_trust(config, trust)
        config = masked_measures.settle(config)
        if not arguments.insecure and (fault := plaintext_fault(broker)):
            raise SettingsError(fault)
        try:
            shelf = _shelf(loop, config, job.purpose)
        except (LedgerError, ObjectStoreError) as bad:
            # No wrong setting, as far as anybody can tell: to try again may help.
            sys.stderr.write(f"fedmqtt {job.command}: {bad}\n")
            return 1
        with closing(shelf.ledgers):
            return coordinate(loop, config, shelf, broker, trust, revocations, arguments, job)
    except (
        SettingsError,
        BrokerUrlError,
        CheckpointError,
        LedgerError,
        SeatTaken,
        KeysWanted,
    ) as bad:
        sys.stderr.write(f"fedmqtt {job.command}: {bad}\n")
        return EXIT_USAGE
    except Denied as bad:
        sys.stderr.write(f"fedmqtt {job.command}: {bad}\n")
        return EXIT_DENIED
    finally:
        loop.close()


class NothingToTakeOver(Exception):
    """The run that was waited for has come to its end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"the run in {folder} is finished: there is nothing to take over")


@dataclass(frozen=True, slots=True)
class Shelf:
    """What outlives the program, beside the runs' folders."""

    ledgers: Ledgers
    objects: ObjectStore | None


def _shelf(loop: EventLoop, config: FederationConfig, purpose: Purpose) -> Shelf:
    """By the settings, for runs of this purpose. Raises SettingsError, LedgerError,
    ObjectStoreError."""
    objects = object_store.of(config, loop.is_stopping)
    return Shelf(ledgers.of(config, loop.is_stopping, purpose), objects)


def coordinate(
    loop: EventLoop,
    config: FederationConfig,
    shelf: Shelf,
    broker: BrokerUrl,
    trust: Trust | None,
    revocations: Revocations | None,
    arguments: argparse.Namespace,
    job: Job,
) -> int:
    """Exit code of the program."""
    awaited: Path | None = None
    try:
        while (place := _place(loop, config, shelf, arguments, job, awaited)) is not None:
            try:
                service = _service(
                    loop, config, shelf, broker, trust, revocations, place, arguments, job
                )
                return _run_in(place, service, config, job)
            except RunElsewhere as elsewhere:
                if loop.stop_signal is not None:
                    break
                # Its lock is waited for.
                awaited = elsewhere.folder
            except (LedgerDamaged, CheckpointError) as bad:
                if not (place.goes_on or place.has_begun):
                    raise
                raise SettingsError(f"{bad}; {_remedy(place.folder, arguments)}") from bad
            finally:
                _leave(place)
    except Stopped:
        sys.stdout.write(_BEFORE_IT_BEGAN)
        return _STOPPED
    except NothingToTakeOver as ended:
        sys.stdout.write(f"{ended}\n")
        return 0
    return _STOPPED


def _remedy(folder: Path, arguments: argparse.Namespace) -> str:
    """For a run that cannot be gone on with as it is."""
    anew = "begin another run with --new"
    if arguments.run is not None:
        anew = "choose another folder with --run"
    return f"put back a copy of what is damaged in {folder}, or {anew}"


def _run_in(place: "_Place", service: Service, config: FederationConfig, job: Job) -> int:
    try:
        service.run()
    except (LedgerDamaged, LedgerTaken):
        raise
    except (OSError, LedgerError) as bad:
        sys.stderr.write(f"fedmqtt {job.command}: {bad}\n")
        if service.has_begun:
            sys.stderr.write(
                "nothing that was received is lost: start it again when that is mended, and the"
                f" run in {place.folder} goes on\n"
            )
        return 1
    if not service.has_begun:
        sys.stdout.write(_BEFORE_IT_BEGAN)
        return _STOPPED
    code = job.report(service, config, place.folder)
    return code if service.is_finished else _STOPPED


def _config(
    arguments: argparse.Namespace,
) -> tuple[FederationConfig, BrokerUrl, Trust | None, Revocations | None]:
    """And the way to the broker, with its account; what that tells of whom to believe, and whose
    signatures count no more."""
    overrides = list(arguments.set)
    if arguments.broker is not None:
        overrides.append(settings.override("broker.url", arguments.broker))
    if arguments.credentials is not None:
        overrides.append(settings.override("broker.credentials", arguments.credentials))
    if arguments.revoked is not None:
        overrides.append(settings.override("broker.revoked", arguments.revoked))
    config = settings.read(arguments.config, overrides, FederationConfig)
    checks.check_parts(config)
    config = one_at_a_time.applied(config)
    checks.check(config)
    revocations = revocations_of(config)
    broker, trust = broker_of(config, revocations)
    if config.broker.tls_ca and not broker.tls:
        raise SettingsError(
            f"broker.tls_ca is given, and {broker} is not encrypted: the broker's certificate is"
            " looked at with mqtts:// alone"
        )
    return config, broker, trust, revocations


def revocations_of(config: FederationConfig) -> Revocations | None:
    """Raises SettingsError."""
    revoked = config.broker.revoked
    if revoked and not config.broker.credentials:
        raise SettingsError(_revoked_in_vain(revoked, "no credentials are given"))
    try:
        return Revocations(Path(revoked)) if revoked else None
    except RevocationsError as bad:
        raise SettingsError(str(bad)) from bad


def broker_of(
    config: FederationConfig, revocations: Revocations | None
) -> tuple[BrokerUrl, Trust | None]:
    """With its account. Raises SettingsError, BrokerUrlError."""
    broker = parse_broker_url(config.broker.url)
    revoked = config.broker.revoked
    if not config.broker.credentials:
        return broker, None
    path = Path(config.broker.credentials)
    try:
        url = config.broker.url if broker.tls else ""
        is_revoked = _is_never_revoked if revocations is None else revocations.includes
        account, access = credentials.broker_of(path, ("coordinator",), url, is_revoked)
    except CredentialsError as bad:
        raise SettingsError(str(bad)) from bad
    if revoked and access.seal is None:
        raise SettingsError(_revoked_in_vain(revoked, f"{path} holds none"))
    if account.federation != config.name:
        raise SettingsError(
            f"name is {config.name!r}, and {path} is for federation {account.federation!r}"
        )
    return access, trust_of(account, is_revoked)


def _is_never_revoked(_key: str) -> bool:
    return False


def _revoked_in_vain(revoked: str, why: str) -> str:
    return (
        f"broker.revoked is {revoked!r}: it lists the keys by which devices sign, and {why}."
        " Give the credentials of a kit with keys, or leave it out"
    )


def with_strategy_settings(config: FederationConfig) -> FederationConfig:
    """The same, with what the chosen strategy and policy take, and their defaults. Raises
    SettingsError."""
    kind = parts.load(aggregation, config.aggregation).Settings
    found = settings.convert(config.aggregation_settings, kind, "aggregation_settings")
    policy = round_rules.selection_settings(config)
    return structs.replace(
        config,
        aggregation_settings=msgspec.to_builtins(found),
        selection_settings=msgspec.to_builtins(policy),
    )


@dataclass(slots=True)
class _Place:
    """A run's folder, which is this program's alone for as long as it lives."""

    folder: Path
    held: Place
    goes_on: bool
    is_ours: bool
    """Named and made by us: not a folder that a person chose, in which more may lie."""
    has_begun: bool = False
    """Whether a run did, here and now."""

    def begin(self, settled: str) -> None:
        self.has_begun = True
        _keep_settings(self.folder, settled)


def _place(
    loop: EventLoop,
    config: FederationConfig,
    shelf: Shelf,
    arguments: argparse.Namespace,
    job: Job,
    awaited: Path | None,
) -> _Place | None:
    """None when the wait for another coordinator's end, or its beginning, was broken off.

    `awaited` is the folder of a run that another coordinates. Raises NothingToTakeOver when that
    run has ended meanwhile, SettingsError when there is no folder to work in.
    """
    if arguments.new and arguments.standby:
        raise SettingsError("--new begins a run and --standby goes on with one: give one of them")
    among = shelf.ledgers
    while True:
        if awaited is not None and ledgers.is_finished(awaited, among):
            raise NothingToTakeOver(awaited)
        folder, goes_on = run_search.choose(
            config, among, arguments.run, new=arguments.new, purpose=job.purpose
        )
        begins = not goes_on and arguments.run is None and job.purpose == "train"
        if begins and arguments.standby and (last := run_search.finished_last(config, among)):
            # Started again, as by a service manager, it does not train anew by itself.
            if not _wait_for_next(loop, config, among, last):
                return None
            continue
        try:
            held = _taken(folder, among)
        except RunInUse as used:
            if not arguments.standby:
                raise SettingsError(f"{used}. {WHAT_TO_DO}") from used
            if not _wait_for(loop, folder, among, used):
                return None
            awaited = folder
            continue
        if goes_on:
            _move_ledger(folder, held, shelf)
        # It may have come to its end between the look and the lock.
        if goes_on and not ledgers.is_unfinished(folder, among):
            held.release()
            raise NothingToTakeOver(folder)
        return _Place(folder, held, goes_on, is_ours=not goes_on and arguments.run is None)


def _move_ledger(folder: Path, held: Place, shelf: Shelf) -> None:
    """If that has to be. Where it cannot be, the place is left."""
    if held.storage is None:
        return
    try:
        if run_search.has_to_move(folder, shelf.ledgers):
            moved_ledger.move(folder, held.storage, shelf.ledgers.name, shelf.objects)
        elif ledgers.has_begun(folder, shelf.ledgers):
            moved_ledger.arrived(folder, shelf.ledgers.name)
    except (SettingsError, LedgerError):
        held.release()
        raise
    except OSError as bad:
        held.release()
        where = f"{bad.filename}: " if bad.filename else ""
        said = f"{where}{bad.strerror or bad}"
        raise SettingsError(f"the ledger of {folder} cannot be moved: {said}") from bad


def _leave(place: _Place) -> None:
    if place.is_ours and not place.has_begun:
        # Nothing is in it that anybody would look for. (The ledger is not asked: a full disk may
        # keep it from being read.)
        shutil.rmtree(place.folder, ignore_errors=True)
    place.held.release()


def _taken(folder: Path, among: Ledgers) -> Place:
    try:
        return among.take(folder)
    except OSError as bad:
        raise SettingsError(f"run folder {_said(bad)}") from bad


def _said(bad: OSError) -> str:
    # Where a file was to take another's place, that one is the second.
    said = f"{bad.filename2 or bad.filename}: {bad.strerror}"
    if isinstance(bad, IsADirectoryError):
        said += "; move it away: it is made anew"
    return said


def _wait_for(loop: EventLoop, folder: Path, among: Ledgers, used: RunInUse) -> bool:
    """Until it may be free. False if a person does not want to wait any more."""
    _log.info("standing by: %s", used)
    while loop.stop_signal is None:
        loop.run_once(wait_max_s=_LOOK_EVERY_S)
        if among.may_be_free(folder):
            return True
    return False


def _wait_for_next(
    loop: EventLoop, config: FederationConfig, among: Ledgers, finished: Path
) -> bool:
    """Until another coordinator has begun a run after this one. False if a person does not want to
    wait any more."""
    _log.info(
        "standing by: the run in %s is finished, and the next one is begun by a coordinator without"
        " --standby",
        finished,
    )
    last: Path | None = finished
    while loop.stop_signal is None:
        loop.run_once(wait_max_s=_LOOK_EVERY_S)
        before, last = last, run_search.finished_last(config, among)
        # Cheap, where there are many runs. None: there is a newer one, or none at all any more.
        if last is None or last != before:
            # A folder may have been taken away, which begins none.
            _, goes_on = run_search.choose(config, among, None, new=False)
            if goes_on:
                return True
    return False


def _service(
    loop: EventLoop,
    config: FederationConfig,
    shelf: Shelf,
    broker: BrokerUrl,
    trust: Trust | None,
    revocations: Revocations | None,
    place: _Place,
    arguments: argparse.Namespace,
    job: Job,
) -> Service:
    folder = place.folder
    settled = settings.render(_shown(with_strategy_settings(config)))
    try:
        initial = None if place.goes_on else job.begin(config, folder, loop.is_stopping)
        service = Service(
            loop,
            config,
            initial,
            folder,
            purpose=job.purpose,
            storage=place.held.storage,
            objects=shelf.objects,
            broker=broker,
            trust=trust,
            revocations=revocations,
            standby=arguments.standby,
            on_begin=lambda: place.begin(settled),
            # Who asked for a new run, or for one in this folder, shall have it.
            elsewhere=lambda: (
                run_search.newest_unfinished(config, shelf.ledgers)
                if place.is_ours and not arguments.new
                else None
            ),
        )
        if place.goes_on:
            _keep_settings(folder, settled)
        elif job.purpose == "train" and config.differential_privacy.noise != "none":
            found = earlier_runs.of(config, shelf.ledgers)
            if told := earlier_runs.warning(one for one in found if one[0] != folder):
                _log.warning("%s", told)
    except ObjectStoreError as bad:
        raise SettingsError(str(bad)) from bad
    except OSError as bad:
        raise SettingsError(f"run folder {_said(bad)}") from bad
    return service


def _shown(config: FederationConfig) -> FederationConfig:
    """Without the broker's password: screens and run folders are shown around."""
    broker = structs.replace(config.broker, url=without_password(config.broker.url))
    return structs.replace(config, broker=broker)


def _keep_settings(folder: Path, settled: str) -> None:
    """Those that the run began with."""
    if not (path := folder / "federation.toml").exists():
        path.write_text(settled)


def initial_model(config: FederationConfig, folder: Path, is_stopped: Callable[[], bool]) -> Model:
    if config.initial_model:
        return checkpoint.load(Path(config.initial_model))
    out = folder / "initial_model.safetensors"
    words = ["-m", "learning_tasks.initial_model", config.task, "--seed", str(config.seed)]
    made = task_process.run([*words, "--out", str(out)], is_stopped)
    if made.returncode != 0:
        ended = made.stderr.strip() or f"the program that makes it ended with {made.returncode}"
        if made.returncode < 0:
            by = signal.Signals(-made.returncode).name
            ended = f"the program that makes it was ended by {by}"
        raise SettingsError(f"no initial model: {ended}")
    return checkpoint.load(out)


def _privacy_lines(service: Service) -> list[str]:
    told = service.privacy
    if told is None:
        return []
    said = (
        f"differential privacy: epsilon {told.epsilon:.4g} of {told.epsilon_max:.4g} at delta"
        f" {told.delta:g}; the device that took part most often did so {told.participations} of"
        f" {told.participations_max} times"
    )
    if told.epsilon_of_models is not None:
        said += f"; for who has the models alone, epsilon {told.epsilon_of_models:.4g}"
    return [said, *([BUDGET_USED_UP] if service.is_used_up else [])]


def _report(service: Service, config: FederationConfig, folder: Path) -> int:
    totals = service.totals
    done = "finished" if service.is_finished else "stopped"
    figures = totals.figures
    lines = [
        f"{done} after {totals.rounds} rounds: {totals.sentence()}",
        *(f"  {line}" for line in (figures_table.lines(figures) if figures else [])),
        f"model and history: {folder}",
        *_privacy_lines(service),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if service.has_learned else 1

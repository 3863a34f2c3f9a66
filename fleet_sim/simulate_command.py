"""What will become of a federation when its devices come and go? Find out before you own them.

A fleet.toml says who takes part: how many, with which data, online when, on which links and
devices. In virtual time a week takes minutes, and the same seed gives the same run to the last bit.
With --live the same fleet plays in real time, or --speed times as fast: the real coordinator, a
real broker, and every client a real one with a connection of its own. Either leaves a folder as a
real run does; `fedmqtt report` shows one or several.

  fedmqtt simulate --preset phones
  fedmqtt simulate fleet.toml --seed 2 --set connectivity.kind=markov
  fedmqtt simulate --live --speed 10 --preset commuters
  fedmqtt simulate fleet.toml --statistics
"""

import argparse
import contextlib
import math
import os
import shlex
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from broker_config.local_broker import BrokerError
from coordinator.masking import masked_measures, masked_round, privacy_checks
from coordinator.models import checkpoint
from coordinator.models.checkpoint import CheckpointError
from coordinator.persistence import history
from coordinator.persistence.history import Record
from coordinator.statistics import job
from fedmqtt.effects import Seconds
from fedmqtt.messages import Purpose
from fedmqtt.parts import UnknownPart
from fedmqtt.settings import SettingsError, without_passwords
from fedmqtt.status_pages import Privacy
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array, Layout
from fleet_sim import fleet as fleets
from fleet_sim import lab_options, lab_statistics
from fleet_sim.fleet import Crew, Fleet
from fleet_sim.intervals import HOUR_S, share, share_of_the_first
from fleet_sim.lab import Lab, Lesson
from fleet_sim.lab_page import ClientLine, LabPage
from fleet_sim.live_run import LiveRunError, run_live, too_fast
from fleet_sim.live_swarm import LiveSwarmError
from fleet_sim.outcome import Outcome
from fleet_sim.promises import Broken
from fleet_sim.split import Holding, holdings, make_split
from fleet_sim.splits import SplitError
from fleet_sim.training.orders import Workers
from fleet_sim.training.trainers import Trainers
from learning_tasks.initial_model import write_initial_model
from learning_tasks.seam import DataError, TaskError
from learning_tasks.split_data import JUDGE

_SAMPLES_UNLEARNED = 100
"""How much data each client has where nothing is learned."""

_SHARES_MAX = 20_000
"""Of so many clients at most it is told how much they were online: of every second, or third."""

_LOOKED_AT = 50
"""Of so many clients, evenly chosen, a run tells at its start how often they are online."""

_TIMES_LOOKED_AT = 1000
"""By so many of each one's times online: in years of a bus ride's weather there are millions, and
looking at all of them is a minute of silence before the first round."""

Mistake = (SettingsError, UnknownPart, SplitError, TaskError, CheckpointError, OSError)
"""What is wrong with a fleet, told in one sentence."""

_MakeWorkers = Callable[[str, Path, str], Workers]
"""For a task, the folder with its data, and a device."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fleet", type=Path, nargs="?", help="the fleet's file, say fleet.toml")
    parser.add_argument(
        "--preset", metavar="NAME", help=f"a fleet that comes along: {', '.join(fleets.presets())}"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value than the file's, say data.settings.alpha=0.1; may be repeated",
    )
    parser.add_argument("--seed", type=int, help="another than the file's")
    parser.add_argument(
        "--processes",
        type=_count,
        default=os.cpu_count() or 1,
        help="that train; in virtual time they change nothing but the time it takes (default: one a"
        " core)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help='train on a Ray cluster instead, with --processes workers: "auto" for the one that'
        ' this machine belongs to, "local" to start one (pip install "fedmqtt[ray]")',
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="train each client alone, as it would itself, to the last bit; slower",
    )
    parser.add_argument(
        "--no-training",
        action="store_true",
        help="learn nothing: only see who takes part, and when, as if models and updates had no"
        " bytes and everybody 100 samples",
    )
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="train nobody: describe the clients' data, as fedmqtt statistics does",
    )
    parser.add_argument(
        "--live", action="store_true", help="real programs at a real broker, not virtual time"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        help="with --live: seconds of the fleet's time in each second (default: 1)",
    )
    parser.add_argument(
        "--broker",
        metavar="WHICH",
        help="with --live: mosquitto, embedded, or mqtt://host:port; by default Mosquitto if it is"
        " installed",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--run", type=Path, help="this folder instead of a new one in --runs")
    parser.add_argument("--json", action="store_true", help="the result as JSON, as the last line")


def run(arguments: argparse.Namespace) -> int:
    # A service manager's TERM ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _console().status("Reading the fleet ..."):
            fleet = _read(arguments)
        _check_together(arguments, fleet)
        workers = _workers(arguments)
        folder = _run_folder(arguments, fleet)
        if arguments.live:
            result = simulate_live(
                fleet,
                folder,
                repeat=_repeat(arguments),
                broker=arguments.broker or "auto",
                speed=arguments.speed or 1.0,
                processes=arguments.processes,
            )
        else:
            result = simulate(
                fleet,
                folder,
                repeat=_repeat(arguments),
                processes=arguments.processes,
                workers=workers,
                alone=arguments.alone,
                learns=not arguments.no_training,
                describes=arguments.statistics,
            )
    except Mistake as bad:
        sys.stderr.write(f"fedmqtt simulate: {_sentence(bad)}\n")
        return 2
    except Broken as broken:
        sys.stderr.write(f"fedmqtt simulate: a promise was broken: {broken}\n")
        return 1
    except BrokerError as bad:
        # Nothing was run: the same folder can be given again.
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.write(f"fedmqtt simulate: {bad}\n")
        return 1
    except (LiveSwarmError, LiveRunError) as bad:
        sys.stderr.write(f"fedmqtt simulate: {bad}\n")
        return 1
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return 0 if result.models else 1


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    run: str
    seed: int
    trace: str
    finished: bool
    """All rounds were run before the fleet's hours were over."""
    hours: float
    """Of virtual time."""
    rounds: int
    models: int
    """Rounds that made one."""
    invited: int
    answered: int
    """Also those whose answer came when their round had closed, and counted."""
    dropped: int
    surplus: int
    """Answered when the round had enough, and were not waited for."""
    rejected: int
    late: int
    bytes_up: int
    bytes_down: int
    metrics: dict[str, float]
    """Of the last model that was measured."""
    privacy: Privacy | None = None
    """Of the last model, where there is noise."""


def simulate(
    fleet: Fleet,
    folder: Path,
    *,
    repeat: str,
    processes: int = 1,
    workers: _MakeWorkers | None = None,
    alone: bool = False,
    learns: bool = True,
    describes: bool = False,
    enough: Callable[[Record], bool] = lambda record: False,
    console: Console | None = None,
) -> Result:
    """A whole run in virtual time; its folder is made. Raises what is in `Mistake`, and Broken.

    `workers` train, or so many `processes`; where it `describes`, the clients' data is described
    and nobody trains. It ends sooner with a round that is `enough`. On
    `console` it tells how it goes; by default on standard error.
    """
    console = console or _console()
    if not learns:
        with _making(folder, console):
            names = [f"client-{n + 1:07}" for n in range(fleet.config.clients)]
            if not names:
                raise SettingsError(
                    "clients: say how many there are, where nothing is learned: --set clients=100"
                )
            crew = fleet.crew(names)
        _say_options(console, fleet, crew, repeat)
        lab = Lab(fleet, crew, lambda client, purpose: _SAMPLES_UNLEARNED, None, _Say(console))
        is_stopped = not _go(lab, fleet, console, enough)
        history.write(folder / "history.jsonl", lab.records)
        outcome = replace(lab.outcome, is_stopped=is_stopped)
        result = _conclude(outcome, "virtual", fleet, crew, {}, folder, repeat, console)
        return _unless(is_stopped, result, console)
    data = folder / "data"
    with _making(folder, console):
        if describes:
            fleet = lab_statistics.settle(fleet)
        elif fleet.config.data.evaluate == "clients":
            fleet = replace(fleet, federation=masked_measures.settle(fleet.federation))
        held = _share_out(fleet, data)
        crew = fleet.crew([one.client for one in held], [one.mean_label for one in held])
        first = job.first_questions(fleet.federation) if describes else _first_model(fleet, folder)
        layout, flat = first
    _say_options(console, fleet, crew, repeat)
    with Trainers(
        fleet.federation.task,
        data,
        together=1 if alone else "auto",
        processes=processes if processes > 1 else 0,
        workers=workers,
    ) as trainers:
        lesson = Lesson(layout=layout, flat=flat, trainers=trainers, folder=data)
        samples = _samples(fleet, data, held)
        lab = Lab(fleet, crew, samples, lesson, _Say(console))
        is_stopped = not _go(lab, fleet, console, enough)
    assert lab.tensors is not None
    if describes:
        lab_statistics.conclude(lab, fleet, folder, console)
    else:
        checkpoint.save(folder / "model.safetensors", layout, lab.tensors.flat, {})
    history.write(folder / "history.jsonl", lab.records)
    by_name = {one.client: one for one in held}
    outcome = replace(lab.outcome, is_stopped=is_stopped)
    result = _conclude(outcome, "virtual", fleet, crew, by_name, folder, repeat, console)
    return _unless(is_stopped, result, console)


def simulate_live(
    fleet: Fleet, folder: Path, *, repeat: str, broker: str, speed: float, processes: int
) -> Result:
    """A whole run at a real broker; its folder is made.

    Raises what is in `Mistake`, BrokerError, LiveSwarmError, and once what there is is kept
    LiveRunError, and KeyboardInterrupt where a person has ended it.
    """
    console = _console()
    data = folder / "data"
    with _making(folder, console):
        held = _share_out(fleet, data)
        crew = fleet.crew([one.client for one in held], [one.mean_label for one in held])
    _say_options(console, fleet, crew, repeat)
    if sentence := too_fast(fleet, speed):
        console.print(sentence, markup=False)
    outcome = run_live(
        fleet,
        crew,
        _samples(fleet, data, held),
        data,
        folder,
        broker=broker,
        speed=speed,
        processes=processes,
        on_round=_Say(console),
    )
    if outcome.overruns:
        console.print(
            f"{outcome.overruns} trainings took longer on this machine than on their devices: at a"
            " lower --speed the fleet's time is truer",
            markup=False,
        )
    by_name = {one.client: one for one in held}
    result = _conclude(outcome, "live", fleet, crew, by_name, folder, repeat, console)
    if outcome.failure:
        raise LiveRunError(outcome.failure)
    return _unless(outcome.is_stopped, result, console)


@contextmanager
def _making(folder: Path, console: Console) -> Iterator[None]:
    """The run's folder; nothing of it is left where the fleet turns out to be impossible."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with console.status("Sharing out the data ..."):
            yield
    except Mistake:
        shutil.rmtree(folder / "data", ignore_errors=True)
        # Whatever else is in there is not ours.
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _unless(is_stopped: bool, result: Result, console: Console) -> Result:
    """The result. Raises KeyboardInterrupt where a person has ended the run before its end."""
    if is_stopped:
        console.print(f"stopped; what there is lies in {result.run}", markup=False)
        raise KeyboardInterrupt
    return result


def _check_together(arguments: argparse.Namespace, fleet: Fleet) -> None:
    """What would do nothing is refused. Raises SettingsError."""
    given = {
        "--ray": arguments.ray,
        "--alone": arguments.alone,
        "--no-training": arguments.no_training,
        "--statistics": arguments.statistics,
    }
    for option in (name for name, value in given.items() if value):
        if arguments.live:
            raise SettingsError(f"{option} is for virtual time: leave it out, or --live")
    if arguments.no_training and (arguments.ray or arguments.alone):
        raise SettingsError("--no-training trains nobody: leave out --ray and --alone")
    if arguments.statistics and (arguments.no_training or arguments.ray or arguments.alone):
        raise SettingsError(
            "--statistics trains nobody, and reads all data: leave out --no-training, --ray and"
            " --alone"
        )
    for option, value in (("--speed", arguments.speed), ("--broker", arguments.broker)):
        if value and not arguments.live:
            raise SettingsError(f"{option} is for a run at a real broker: add --live")
    if arguments.live and fleet.config.faults.polite:
        raise SettingsError(
            "faults.polite: live, clients that leave say no goodbye: add --set faults.polite=0"
        )
    if arguments.live and masked_round.is_masked(fleet.federation):
        raise masked_round.refused(
            fleet.federation,
            "live clients have no keys to sign with, and no keyholders run beside them: leave out"
            " --live, as in virtual time the same numbers are made without keys; or add"
            " --set federation.privacy.aggregation=plain",
        )
    if arguments.statistics:
        privacy_checks.check_job(fleet.federation, "describe")
    if arguments.no_training and fleet.config.connectivity.follows_data:
        raise SettingsError(
            "--no-training: without data nobody's weather can follow it: add"
            " --set connectivity.follows_data=0"
        )


def _workers(arguments: argparse.Namespace) -> _MakeWorkers | None:
    """None: processes of this machine. Raises SettingsError."""
    address: str | None = arguments.ray
    if not address:
        return None
    try:
        # Here, because it is an extra, and takes a second.
        from fleet_sim.training.ray_workers import on_ray
    except ModuleNotFoundError as missing:
        raise SettingsError(f"--ray needs {missing.name}: pip install 'fedmqtt[ray]'") from missing
    return on_ray(arguments.processes, None if address == "local" else address)


def _share_out(fleet: Fleet, folder: Path) -> list[Holding]:
    data = fleet.config.data
    try:
        make_split(
            fleet.federation.task,
            # In full: what is missing is told of by its place.
            fleet.data_dir.resolve(),
            data.split,
            data.settings,
            fleet.config.clients,
            fleet.config.seed,
            0.0 if data.evaluate == "test" else data.held_out,
            folder,
        )
    except DataError as bad:
        raise SettingsError(
            f"{fleet.source}: data.path: {bad}; choose another folder with --set data.path=FOLDER"
        ) from bad
    return holdings(folder)


def _first_model(fleet: Fleet, folder: Path) -> tuple[Layout, Array]:
    """As the coordinator has it, tensors in the same order."""
    federation = fleet.federation
    if federation.initial_model:
        return checkpoint.load(Path(federation.initial_model))
    path = folder / "initial_model.safetensors"
    write_initial_model(federation.task, federation.seed, path)
    return checkpoint.load(path)


def _samples(fleet: Fleet, folder: Path, held: Sequence[Holding]) -> Any:
    counts = {(one.client, "train"): one.samples - one.held_out for one in held}
    counts |= {(one.client, "evaluate"): one.held_out for one in held}
    if fleet.config.data.evaluate == "test":
        counts[JUDGE, "evaluate"] = 0

    def samples(client: ClientId, purpose: Purpose) -> int:
        return counts[client, purpose]

    return samples


def _go(lab: Lab, fleet: Fleet, console: Console, enough: Callable[[Record], bool]) -> bool:
    """Run it, with a bar on a screen: rounds where they are counted, else hours.

    False where a person has stopped it.
    """
    count, hours = fleet.federation.rounds.count, fleet.config.hours_max
    with Progress(
        TextColumn("{task.fields[clock]}"),
        BarColumn(),
        TextColumn("{task.fields[rounds]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=count or hours, clock="", rounds="")

        def on_time(now: Seconds) -> None:
            if lab.clock.happened % 256:
                return
            done = len(lab.records)
            bar.update(
                task,
                completed=done if count else now / HOUR_S,
                clock=f"{timedelta(seconds=int(now))} of the fleet's time",
                rounds=f"{done} of {count} rounds" if count else f"{done} rounds",
            )

        try:
            lab.run(on_time, enough)
        except KeyboardInterrupt:
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Say:
    """One line for each round."""

    console: Console

    def __call__(self, record: Record) -> None:
        self.console.print(history.sentence(record), markup=False)


def _conclude(
    outcome: Outcome,
    mode: str,
    fleet: Fleet,
    crew: Crew,
    held: Mapping[str, Holding],
    folder: Path,
    repeat: str,
    console: Console,
) -> Result:
    (folder / "fleet.toml").write_text(without_passwords(fleet.as_used()))
    now = max(outcome.seconds, 1.0)
    step = math.ceil(len(crew) / _SHARES_MAX)
    lines = [_line(crew, n, held, now if n % step == 0 else None) for n in range(len(crew))]
    options = lab_options.options(fleet.config)
    page = LabPage(
        mode=mode,
        title=fleet.federation.name,
        seed=fleet.config.seed,
        clients=lines,
        rounds=list(outcome.marks),
        speed=outcome.speed,
        trace=outcome.trace,
        weather={one.name: one.value for one in options},
        repeat=repeat,
    )
    (folder / "lab.json").write_bytes(msgspec.json.encode(page))
    result = _result(outcome, fleet, folder)
    _say_result(console, result, outcome)
    return result


def _line(crew: Crew, n: int, held: Mapping[str, Holding], until: Seconds | None) -> ClientLine:
    holding = held.get(crew.clients[n])
    counts = list(holding.label_counts.values()) if holding else []
    return ClientLine(
        client=crew.clients[n],
        samples=holding.samples if holding else None,
        label_counts=counts,
        dominant_label=counts.index(max(counts)) if counts else None,
        rank=crew.ranks[n],
        online_share=None if until is None else round(share(crew[n].online(), until), 6),
    )


def _result(outcome: Outcome, fleet: Fleet, folder: Path) -> Result:
    totals = history.NOTHING
    for record in outcome.records:
        totals = totals.plus(record)
    return Result(
        run=str(folder),
        seed=fleet.config.seed,
        trace=outcome.trace,
        finished=outcome.is_finished,
        hours=round(outcome.seconds / HOUR_S, 4),
        rounds=totals.rounds,
        models=sum(one.outcome == "averaged" for one in outcome.records),
        surplus=sum(len(one.surplus) for one in outcome.records),
        invited=totals.invited,
        answered=totals.heard,
        dropped=totals.dropped,
        rejected=totals.rejected,
        late=totals.late,
        bytes_up=outcome.bytes_up,
        bytes_down=outcome.bytes_down,
        metrics=dict(totals.figures.metrics) if totals.figures else {},
        privacy=next((one.privacy for one in reversed(outcome.records) if one.privacy), None),
    )


# For people


def _console() -> Console:
    # Standard output is for --json.
    # FORCE_COLOR, which Jupyter sets, makes no screen of a file.
    console = Console(stderr=True, highlight=False, force_terminal=sys.stderr.isatty())
    # In a file every sentence has a line to itself, however long.
    console.soft_wrap = not console.is_terminal
    return console


def _say_options(console: Console, fleet: Fleet, crew: Crew, repeat: str) -> None:
    """The seed, every option that the run depends on, and how often anybody is there by them."""
    console.print(f"{fleet.source}: seed {fleet.config.seed}", markup=False)
    lab_options.show(console, fleet.config)
    # A log in other units than we take it for shows here.
    step = math.ceil(len(crew) / _LOOKED_AT)
    hours = fleet.config.hours_max
    looks = [
        share_of_the_first(_TIMES_LOOKED_AT, crew[n].online(), hours * HOUR_S)
        for n in range(0, len(crew), step)
    ]
    shares = [found for found, _ in looks]
    by = "" if all(whole for _, whole in looks) else f", by the first {_TIMES_LOOKED_AT} times each"
    console.print(
        f"{len(crew)} clients, online {sum(shares) / len(shares):.0%} of {hours:g} h on average"
        f" ({min(shares):.0%} to {max(shares):.0%}){by}",
        markup=False,
    )
    # Whole, since it will be copied; a terminal breaks it where it must.
    console.print(f"repeat with: {repeat}", markup=False, soft_wrap=True)


def _why_none(outcome: Outcome) -> str:
    if not outcome.records:
        return (
            "never were so many clients there and willing as federation.rounds.clients_min asks for"
        )
    reasons = Counter(
        reason
        for record in outcome.records
        for told in (record.declined, record.rejected)
        for reason in told.values()
    )
    if not reasons:
        return outcome.records[-1].reason
    ((reason, count),) = reasons.most_common(1)
    return f"{count} times a client said, or was told: {reason}"


def _say_result(console: Console, result: Result, outcome: Outcome) -> None:
    ended = "the fleet's hours are over"
    if outcome.is_stopped or outcome.failure:
        ended = "ended early"
    elif outcome.is_finished:
        ended = "all rounds done"
    metrics = "".join(f", {name} {value:.4f}" for name, value in result.metrics.items())
    console.print(
        f"{ended}: {result.rounds} rounds in {result.hours:.2f} h of the fleet's time, "
        f"{result.answered} of {result.invited} answered, {result.dropped} dropped, "
        f"{result.surplus} surplus, {result.rejected} rejected, {result.late} late, "
        f"{result.bytes_up / 1e6:.1f} MB up, "
        f"{result.bytes_down / 1e6:.1f} MB down{metrics}",
        markup=False,
    )
    if (spent := result.privacy) is not None:
        console.print(
            f"one device: epsilon {spent.epsilon:.3g} of {spent.epsilon_max:.3g} at delta"
            f" {spent.delta:g}, after {spent.participations} rounds of {spent.participations_max}",
            markup=False,
        )
    if result.trace:
        console.print(f"trace {result.trace}", markup=False)
    if not result.models:
        console.print(f"no round made a model: {_why_none(outcome)}", markup=False)
    if not result.rounds:
        return
    see = f"see it: fedmqtt report {shlex.quote(result.run)}"
    console.print(see, markup=False, soft_wrap=True)


def _read(arguments: argparse.Namespace) -> Fleet:
    if (arguments.fleet is None) == (arguments.preset is None):
        choices = ", ".join(fleets.presets())
        raise SettingsError(f"give a fleet's file, or --preset with one of: {choices}")
    path = fleets.preset(arguments.preset) if arguments.preset else arguments.fleet
    overrides = list(arguments.set)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    return fleets.read(path, overrides)


def _run_folder(arguments: argparse.Namespace, fleet: Fleet) -> Path:
    if arguments.run is not None:
        run = Path(arguments.run)
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise SettingsError(f"--run: {run} is there, and not empty; choose another folder")
        return run
    name = f"{fleet.federation.name}-seed-{fleet.config.seed}"
    number = 1
    while True:
        folder: Path = arguments.runs / f"{name}-{number}"
        try:
            # Made at once, since another run may begin at this moment.
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _repeat(arguments: argparse.Namespace) -> str:
    words = ["fedmqtt", "simulate"]
    words += ["--preset", arguments.preset] if arguments.preset else [str(arguments.fleet)]
    for one in arguments.set:
        words += ["--set", one]
    if arguments.seed is not None:
        words += ["--seed", str(arguments.seed)]
    words += ["--alone"] * arguments.alone + ["--no-training"] * arguments.no_training
    words += ["--statistics"] * arguments.statistics
    if arguments.live:
        words += ["--live", "--speed", f"{arguments.speed or 1.0:g}"]
        # Here they change how much it can keep up with.
        words += ["--processes", str(arguments.processes)]
        words += ["--broker", arguments.broker] if arguments.broker else []
    return without_passwords(shlex.join(words))


def _sentence(bad: BaseException) -> str:
    if isinstance(bad, OSError) and bad.filename:
        return f"{bad.filename}: {bad.strerror}"
    return str(bad)


def _speed(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (speed := float(text)) <= 10_000:
            return speed
    raise argparse.ArgumentTypeError(f"{text!r} is no speed: above 0, up to 10000")


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no count: a whole number, 1 or more")

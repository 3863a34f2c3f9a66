"""A whole federation on this machine: 23 phones and 23 watches of 23 people learn together.

Real recordings, a real broker, a coordinator and 46 clients, each with its own MQTT session, its
own data and its own outbox. A third of the devices is away at any moment and comes back later; at
least one invited device in ten vanishes in the middle of its work, by a connection cut without a
goodbye. At the end the model is measured on six people whose devices never trained.

On a terminal it is watched as with `fedmqtt watch`; q or Ctrl-C ends it.
"""

import argparse
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console

from broker_config.local_broker import BrokerError, RunningBroker, start_broker
from coordinator.config import (
    Broker,
    Evaluation,
    FederationConfig,
    Rounds,
    TrainingSettings,
)
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import settings
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from fleet_sim.children import Child, child, run_until_one_ends
from fleet_sim.demo_clients import TASK, SwarmTotals
from learning_tasks.phonewatch_devices import (
    CLASS_NAMES,
    TRAINING_CLIENTS,
    UNSEEN_CLIENTS,
    split_by_device,
)
from round_monitor.live import LiveLines
from round_monitor.picture import draw
from round_monitor.report import RunResult, render_result
from round_monitor.sights import FeedThread
from round_monitor.terminal import abilities
from round_monitor.terminal.app import WatchApp

FEDERATION = "demo"
ROUNDS = 25
COHORT = 10


class DemoError(Exception):
    """The demonstration cannot go on; one sentence says why and where to look."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=_count, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--seed", type=_seed, default=1, help="default 1")
    parser.add_argument(
        "--broker",
        default="auto",
        metavar="WHICH",
        help="mosquitto, embedded, or mqtt://host:port; by default Mosquitto if it is installed",
    )
    parser.add_argument(
        "--trainers",
        type=_count,
        default=min(4, os.cpu_count() or 1),
        help="processes that the 46 clients share to train in; default one a core, up to 4",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--json", action="store_true", help="the result as JSON, as the last line")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live screen")


def run(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    try:
        with start_broker(arguments.broker) as broker:
            folder = _run_folder(arguments.runs)
            finished, totals = _federate(arguments, broker, folder)
            if not finished:
                sys.stderr.write(f"stopped; what there is lies in {folder}\n")
                return 130
            wall_s = time.monotonic() - began
            _report(arguments, broker, folder, totals, wall_s)
    except (DemoError, BrokerError) as bad:
        sys.stderr.write(f"fedmqtt demo: {bad}\n")
        return 1
    return 0


def _federate(
    arguments: argparse.Namespace, broker: RunningBroker, folder: Path
) -> tuple[bool, SwarmTotals]:
    """Run the federation to its end. Whether it got there, and what its clients carried."""
    totals = folder / "clients.json"
    loop = EventLoop()
    loop.stop_on_signals()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="fedmqtt-demo-")))
        config = _write_config(arguments, broker, scratch)
        data = scratch / "data"
        split_by_device(data)
        clients = stack.enter_context(
            child("clients", folder, _clients_command(arguments, broker, data, scratch, totals))
        )
        words = ["-m", "fedmqtt", "coordinator", str(config), "--run", str(folder)]
        coordinator = stack.enter_context(child("coordinator", folder, words))
        children = [coordinator, clients]
        if arguments.plain or arguments.json or not abilities.is_screen():
            ended = _tell(loop, broker, children)
        else:
            ended = _show(loop, broker, children)
    loop.close()
    if ended is None:
        return False, SwarmTotals(0, 0, 0)
    if ended is not coordinator or coordinator.process.returncode != 0:
        raise DemoError(f"the {ended.name} ended early; {ended.log} says why")
    return True, msgspec.json.decode(totals.read_bytes(), type=SwarmTotals)


def _tell(loop: EventLoop, broker: RunningBroker, children: Sequence[Child]) -> Child | None:
    """A line for each event, until a child ends, which is returned, or a person stops it: None."""
    lines = LiveLines(loop, parse_broker_url(broker.url), FEDERATION)
    lines.start()
    try:
        return run_until_one_ends(loop, children)
    finally:
        lines.stop()


def _show(loop: EventLoop, broker: RunningBroker, children: Sequence[Child]) -> Child | None:
    """The same, on the screen of `fedmqtt watch`."""
    ended: list[Child | None] = []
    # The screen has this thread, as signals come here; whoever waits for programs has another.
    waiting = threading.Thread(target=lambda: ended.append(run_until_one_ends(loop, children)))
    feed = FeedThread(parse_broker_url(broker.url), FEDERATION)
    app = WatchApp(
        lambda: feed.newest,
        broker.name,
        colour=abilities.has_colour(os.environ),
        ascii_only=abilities.is_ascii(sys.stdout.encoding),
        is_over=lambda: not waiting.is_alive(),
        quitting="end the demonstration",
    )
    feed.start()
    waiting.start()
    try:
        app.run()
    finally:
        # Also by q, while the programs run.
        loop.stop()
        waiting.join()
        feed.stop()
    return ended[0] if ended else None


def _clients_command(
    arguments: argparse.Namespace, broker: RunningBroker, data: Path, scratch: Path, totals: Path
) -> list[str]:
    return [
        *("-m", "fleet_sim.demo_clients"),
        *("--broker", broker.url, "--federation", FEDERATION),
        *("--data", str(data), "--state", str(scratch / "state"), "--totals", str(totals)),
        *("--seed", str(arguments.seed), "--trainers", str(arguments.trainers)),
        *("--train", *TRAINING_CLIENTS),
        *("--evaluate", *UNSEEN_CLIENTS),
    ]


def _write_config(arguments: argparse.Namespace, broker: RunningBroker, folder: Path) -> Path:
    config = FederationConfig(
        name=FEDERATION,
        task=TASK,
        seed=arguments.seed,
        broker=Broker(url=broker.url),
        rounds=Rounds(
            count=arguments.rounds,
            cohort=COHORT,
            over_selection=1.3,
            quorum=5,
            # Most of those who are to train, so that the first rounds are like the others.
            clients_min=2 * COHORT,
            deadline_s=20.0,
            retry_s=1.0,
            away_grace_s=3.0,
        ),
        training=TrainingSettings(epochs=2, batch_size=16, learning_rate=0.01, momentum=0.9),
        evaluation=Evaluation(every=1, clients=0, final_deadline_s=30.0),
    )
    path = folder / "federation.toml"
    path.write_text(settings.render(config))
    return path


def _run_folder(runs: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{FEDERATION}-{stamp}"
    try:
        folder.mkdir(parents=True)
    except OSError as bad:
        raise DemoError(f"cannot make the run's folder {folder}: {bad.strerror}") from bad
    return folder


def _report(
    arguments: argparse.Namespace,
    broker: RunningBroker,
    folder: Path,
    totals: SwarmTotals,
    wall_s: float,
) -> None:
    records = history.read(folder / "history.jsonl")
    result = _result(arguments, broker, folder, totals, wall_s, records)
    (folder / "result.json").write_text(result.to_json() + "\n")
    picture = folder / "rounds.png"
    draw(folder / "history.jsonl", picture, "46 phones and watches")
    files = {
        "model": folder / "model.safetensors",
        "history": folder / "history.jsonl",
        "picture": picture,
    }
    figures = records[-1].figures
    confusion = figures.confusion if figures else None
    measured_on = (
        ""
        if figures is None
        else (
            f"on {figures.samples:,} samples of {figures.clients} devices of people"
            " whose devices never trained"
        )
    )
    Console(stderr=arguments.json).print(
        render_result(result, measured_on, confusion, CLASS_NAMES, files, _repeat(arguments))
    )
    if arguments.json:
        sys.stdout.write(result.to_json() + "\n")


def _result(
    arguments: argparse.Namespace,
    broker: RunningBroker,
    folder: Path,
    totals: SwarmTotals,
    wall_s: float,
    records: Sequence[Record],
) -> RunResult:
    figures = records[-1].figures
    metrics = figures.metrics if figures else {}
    return RunResult(
        accuracy=metrics.get("accuracy"),
        macro_f1=metrics.get("macro_f1"),
        rounds=sum(record.outcome != "evaluated" for record in records),
        wall_s=round(wall_s, 1),
        bytes_up=totals.bytes_up,
        bytes_down=totals.bytes_down,
        invited=sum(len(record.invited) for record in records),
        answered=sum(len(record.answered) + len(record.late_counted) for record in records),
        dropped=sum(len(record.dropped) for record in records),
        surplus=sum(len(record.surplus) for record in records),
        rejected=sum(len(record.rejected) for record in records),
        late=sum(record.late_updates for record in records),
        broker=broker.name,
        seed=arguments.seed,
        run=str(folder),
    )


def _repeat(arguments: argparse.Namespace) -> str:
    words = [f"{_this_program()} demo", f"--rounds {arguments.rounds}", f"--seed {arguments.seed}"]
    if arguments.runs != Path("runs"):
        words.append(f"--runs {shlex.quote(str(arguments.runs))}")
    if arguments.broker != "auto":
        words.append(f"--broker {arguments.broker}")
    return " ".join(words)


def _this_program() -> str:
    """How a person calls it from here: the virtual environment may not be on the PATH."""
    if shutil.which("fedmqtt"):
        return "fedmqtt"
    program = Path(sys.argv[0])
    return str(program) if program.name == "fedmqtt" else f"{sys.executable} -m fedmqtt"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 2**53:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to 2^53")
    return number

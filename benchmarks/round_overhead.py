"""What a round costs beside the training: clients that return the model plus tiny noise.

A real broker, the real coordinator, N real clients (a process each, or `--in-process` for one
process with N agents). Prints one JSON line:

    round_s                  median wall time from one round's close to the next one's
    longest_round_s          the longest of these
    updates_per_s            accepted updates over the whole measured time
    cpu_s_per_update         CPU seconds of coordinator, broker and clients together, per update
      coordinator_, broker_, clients_cpu_s_per_update   the same, apart
    coordinator_peak_rss_mb  peak resident memory of the coordinator, in MB of 10^6 bytes
    client_idle_rss_mb       resident memory of a real client that waits for a round
    bytes_per_round          payloads and topics that crossed the broker, in and out

With `--durability-cost` all of it is measured twice, in turns, the second time with nothing forced
to the coordinator's disk:

    durability_round_s, durability_cpu_s_per_update   how much more it takes with, as a ratio

With `--signed` coordinator and clients sign what they say, as with the credentials of a kit.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import structs

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import signed
from benchmarks.processes import children, cpu_s, idle_agent, peak_rss_mb, reset_peak_rss, rss_mb
from broker_config.local_broker import RunningBroker, start_broker
from coordinator.config import (
    Broker,
    Evaluation,
    FederationConfig,
    Rounds,
    StatusSettings,
    Tuning,
)
from coordinator.persistence.history import Record
from coordinator.service import Service
from fedmqtt.event_loop import EventLoop
from fedmqtt.weights import layout_of

FEDERATION = "overhead"
TURNS = 3
WARM_UP = 3
"""Rounds before the measured ones: connections, caches, first pages."""


@dataclass(slots=True)
class Clients:
    """The client programs, and what they said when they ended."""

    processes: list[subprocess.Popen[str]]
    bytes_sent: int = 0
    bytes_received: int = 0

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def end(self) -> None:
        for process in self.processes:
            said, _ = process.communicate()
            carried = json.loads(said)
            self.bytes_sent += carried["bytes_sent"]
            self.bytes_received += carried["bytes_received"]


@dataclass(slots=True)
class Meter:
    """Reads clocks and CPU when a round closes: at the end of the warm-up and at the end."""

    pids: dict[str, list[int]]
    warm_up: int
    closed_at: list[float] = field(default_factory=list)
    updates: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    rounds: int = 0

    def on_round(self, record: Record) -> None:
        self.rounds += 1
        if self.rounds < self.warm_up:
            return
        self.closed_at.append(time.perf_counter())
        if self.rounds == self.warm_up:
            self.cpu = {name: -used for name, used in self._used().items()}
        else:
            self.updates += len(record.answered)

    def finish(self) -> None:
        for name, used in self._used().items():
            self.cpu[name] += used

    def _used(self) -> dict[str, float]:
        return {name: sum(map(cpu_s, pids)) for name, pids in self.pids.items()}


def main() -> int:
    arguments = _parse()
    logging.disable(logging.INFO)
    os.environ["FEDMQTT_BENCH_PARAMS"] = str(arguments.params)
    if arguments.signed:
        signed.begin()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        broker = stack.enter_context(start_broker(arguments.broker))
        with idle_agent(broker.url, scratch / "idle") as (pid, _):
            idle_rss_mb = rss_mb(pid)
        if arguments.durability_cost:
            figures = _with_and_without(arguments, broker, scratch)
        else:
            figures = measure(arguments, broker, scratch / "with")
    figures["client_idle_rss_mb"] = round(idle_rss_mb, 1)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _with_and_without(
    arguments: argparse.Namespace, broker: RunningBroker, scratch: Path
) -> dict[str, Any]:
    turns = [
        measure(arguments, broker, scratch / f"{turn}-{durable}", durable=durable)
        for turn in range(TURNS)
        for durable in (True, False)
    ]
    figures = turns[0]
    for name in ("round_s", "cpu_s_per_update"):
        durable, forgetful = (
            statistics.median(turn[name] for turn in turns[first::2]) for first in (0, 1)
        )
        figures[name] = durable
        figures[f"durability_{name}"] = round(durable / forgetful, 3)
    return figures


def measure(
    arguments: argparse.Namespace,
    broker: RunningBroker,
    scratch: Path,
    *,
    durable: bool = True,
    status: StatusSettings | None = None,
) -> dict[str, Any]:
    """One federation from its start to its end; the figures above."""
    config = _config(arguments, broker)
    if status is not None:
        config = structs.replace(config, status=status)
    from benchmarks.echo_task import initial_weights

    initial = initial_weights(0)
    layout = layout_of(initial)
    run = scratch / "run"
    run.mkdir(parents=True)
    # What this process starts, apart from the clients, is the broker.
    broker_pids = children(os.getpid())
    clients = _start_clients(arguments, broker, scratch)
    pids = {"coordinator": [os.getpid()], "broker": broker_pids, "clients": clients.pids}
    meter = Meter(pids, arguments.warm_up)
    loop = EventLoop()
    service = Service(
        loop,
        config,
        (layout, layout.flatten(initial)),
        run,
        meter.on_round,
        broker=signed.of_coordinator(broker.url, FEDERATION),
        durable=durable,
    )
    reset_peak_rss()
    try:
        service.run()
        meter.finish()
        peak_mb = peak_rss_mb(os.getpid())
    finally:
        clients.end()
        loop.close()
    spans = [b - a for a, b in zip(meter.closed_at, meter.closed_at[1:], strict=False)]
    per_update = {name: used / meter.updates for name, used in meter.cpu.items()}
    carried = service.link.bytes_sent + service.link.bytes_received
    carried += clients.bytes_sent + clients.bytes_received
    return {
        "clients": arguments.clients,
        "params": arguments.params,
        "rounds": len(spans),
        "processes": 1 if arguments.in_process else arguments.clients,
        "broker": broker.name,
        "round_s": round(statistics.median(spans), 5),
        "longest_round_s": round(max(spans), 5),
        "updates_per_s": round(meter.updates / sum(spans), 1),
        "cpu_s_per_update": round(sum(per_update.values()), 6),
        **{f"{name}_cpu_s_per_update": round(used, 6) for name, used in per_update.items()},
        "coordinator_peak_rss_mb": round(peak_mb, 1),
        "bytes_per_round": carried // meter.rounds,
    }


def _config(arguments: argparse.Namespace, broker: RunningBroker) -> FederationConfig:
    return FederationConfig(
        name=FEDERATION,
        task="benchmarks.echo_task",
        broker=Broker(url=broker.url),
        rounds=Rounds(
            count=arguments.warm_up + arguments.rounds,
            cohort=arguments.clients,
            over_selection=1.0,
            quorum=arguments.clients,
            clients_min=arguments.clients,
            deadline_s=600.0,
        ),
        tuning=Tuning(enabled=False),
        evaluation=Evaluation(every=0),
    )


def _start_clients(arguments: argparse.Namespace, broker: RunningBroker, scratch: Path) -> Clients:
    ids = [f"client-{i:04}" for i in range(arguments.clients)]
    groups = [ids] if arguments.in_process else [[one] for one in ids]
    command = [sys.executable, str(ROOT / "benchmarks" / "echo_clients.py")]
    command += ["--broker", broker.url, "--federation", FEDERATION]
    command += ["--state", str(scratch / "clients")]
    return Clients(
        [
            subprocess.Popen(
                [*command, *group],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            for group in groups
        ]
    )


def federation_options() -> argparse.ArgumentParser:
    """Which federation is measured: a parent of parsers, this one's and `flood.py`'s."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--params", type=int, default=199_210, help="float32 numbers in the model")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--signed", action="store_true", help="coordinator and clients sign")
    return parser


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[federation_options()],
    )
    parser.add_argument(
        "--durability-cost",
        action="store_true",
        help="measure without forcing anything to the coordinator's disk, too",
    )
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="rounds before the measured")
    parser.add_argument("--in-process", action="store_true", help="all clients in one process")
    parser.add_argument("--broker", default="auto", help="mosquitto, embedded or mqtt://...")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

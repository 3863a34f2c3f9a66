"""Ten thousand real clients at a real broker, from one process, and rounds among them.

A Mosquitto, the coordinator's program, and a swarm of real agents, one TCP connection each; they
train by adding tiny noise to a model of three numbers, so what is measured is the system. Prints
one JSON line:

    agents_made_s            until all agents were made, before the first attempt to connect
    connections              real MQTT connections that were up at the same time
    connect_s                until all of them were up, their making included
    connects_at_once_max     most that waited for the broker's answer at any moment
    first_round_s            from the coordinator's start until the first round was closed
    round_s                  median time a later round was open
    answered                 answers in each round
    swarm_, broker_, coordinator_peak_rss_mb    of 10^6 bytes; the swarm's holds this program
    swarm_kb_per_client      what all connected clients added to the swarm's process, apart

With `--weather` each link has 50 ms of latency and 1 MB/s, made up in the swarm's process.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.echo_clients import InProcessTrainer
from benchmarks.processes import children, peak_rss_mb, rss_mb
from broker_config.local_broker import start_broker
from coordinator.config import Broker, Evaluation, FederationConfig, Rounds, Tuning
from coordinator.persistence import history
from edge_client.config import ClientConfig
from fedmqtt import settings
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from fleet_sim.links import Bandwidth, Link
from fleet_sim.live_client import LivePlan
from fleet_sim.live_swarm import LiveSwarm, allow_descriptors

FEDERATION = "live"
TASK = "benchmarks.echo_task"
_LOOK_EVERY_S = 0.2


def main() -> int:
    arguments = _parse()
    logging.disable(logging.INFO)
    os.environ["FEDMQTT_BENCH_PARAMS"] = "3"
    # Before the broker starts: it inherits the limit.
    allow_descriptors(arguments.clients)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        broker = stack.enter_context(start_broker(arguments.broker))
        figures = _measure(arguments, broker.url, scratch)
        figures["broker"] = broker.name
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _measure(arguments: argparse.Namespace, url: str, scratch: Path) -> dict[str, Any]:
    broker_pids = children(os.getpid())
    loop = EventLoop()
    line = Bandwidth(1e6)
    link = Link(latency_s=0.05, up=line, down=line) if arguments.weather else None
    swarm = LiveSwarm(
        loop,
        parse_broker_url(url),
        ClientConfig(broker=url, federation=FEDERATION, id="template", task=TASK),
        [
            LivePlan(name=f"client-{number:05}", purposes=("train",), link=link)
            for number in range(arguments.clients)
        ],
        InProcessTrainer(loop),
        scratch / "clients",
    )
    before_mb = rss_mb(os.getpid())
    began = time.perf_counter()
    swarm.start()
    made_s = time.perf_counter() - began
    _run_until(loop, lambda: swarm.connected_count == arguments.clients)
    connect_s = time.perf_counter() - began
    connected_mb = rss_mb(os.getpid())
    config = scratch / "federation.toml"
    config.write_text(settings.render(_federation(arguments, url)))
    run = scratch / "run"
    words = ["-m", "fedmqtt", "coordinator", str(config), "--run", str(run)]
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as coordinator:
        try:
            first_s, coordinator_mb = _run_rounds(loop, coordinator, run / "history.jsonl", began)
        finally:
            # Nothing, once it has ended by itself.
            coordinator.terminate()
    connections = swarm.connected_count
    swarm_mb = peak_rss_mb(os.getpid())
    broker_mb = sum(map(peak_rss_mb, broker_pids))
    swarm.stop()
    loop.close()
    records = history.read(run / "history.jsonl")
    later = [record.duration_s for record in records[1:]] or [records[0].duration_s]
    return {
        "clients": arguments.clients,
        "invited": arguments.invited,
        "connections": connections,
        "agents_made_s": round(made_s, 3),
        "connect_s": round(connect_s, 3),
        "connects_at_once_max": swarm.gate.most_inside,
        "first_round_s": round(first_s, 3),
        "rounds": len(records),
        "round_s": round(statistics.median(later), 3),
        "answered": [len(record.answered) for record in records],
        "swarm_peak_rss_mb": round(swarm_mb, 1),
        "swarm_kb_per_client": round((connected_mb - before_mb) * 1000 / arguments.clients, 1),
        "broker_peak_rss_mb": round(broker_mb, 1),
        "coordinator_peak_rss_mb": round(coordinator_mb, 1),
    }


def _run_until(loop: EventLoop, holds: Callable[[], bool]) -> None:
    def look() -> None:
        # Counting ten thousand at each event would be most of the work.
        if holds():
            loop.stop()
        else:
            loop.call_in(_LOOK_EVERY_S, look)

    look()
    loop.run()


def _run_rounds(
    loop: EventLoop, coordinator: subprocess.Popen[bytes], records: Path, began: float
) -> tuple[float, float]:
    """Until the coordinator has ended: seconds to the first round's close, and its peak memory."""
    peaks_mb, first_s = [0.0], [0.0]

    def has_ended() -> bool:
        peaks_mb.append(_peak_mb(coordinator.pid))
        if not first_s[0] and records.exists() and records.stat().st_size:
            first_s[0] = time.perf_counter() - began
        return coordinator.poll() is not None

    _run_until(loop, has_ended)
    if coordinator.returncode != 0:
        raise SystemExit(f"the coordinator ended with {coordinator.returncode}")
    return first_s[0] or time.perf_counter() - began, max(peaks_mb)


def _peak_mb(pid: int) -> float:
    # It may have ended since: a zombie has no memory to tell of.
    try:
        return peak_rss_mb(pid)
    except (ValueError, FileNotFoundError):
        return 0.0


def _federation(arguments: argparse.Namespace, url: str) -> FederationConfig:
    return FederationConfig(
        name=FEDERATION,
        task=TASK,
        broker=Broker(url=url),
        rounds=Rounds(
            count=arguments.rounds,
            cohort=arguments.invited,
            over_selection=1.0,
            quorum=arguments.invited,
            clients_min=arguments.clients,
            deadline_s=600.0,
        ),
        tuning=Tuning(enabled=False),
        evaluation=Evaluation(every=0),
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--invited", type=int, default=1000, help="clients that train in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weather", action="store_true", help="latency and bandwidth on each link")
    parser.add_argument("--broker", default="mosquitto", help="mosquitto, embedded or mqtt://...")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

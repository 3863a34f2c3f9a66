"""What workers take off a coordinator: updates a second, and the CPU of each program per update.

    python benchmarks/workers.py --workers 2 --clients 32 --params 199210 --codec full

Programs as they are started by hand, over a Mosquitto of this machine's; clients that do not train.
All share this machine's processors, so that beyond their number updates a second say little: what
does not depend on that is the CPU per update, and the share of it that is left to the coordinator.
Measured from the end of the first round to the end of the last. One line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import processes
from broker_config.local_broker import start_broker
from coordinator.persistence import history

_HERE = Path(__file__).resolve().parent
_WITHIN_S = 300.0
_FEDERATION = "workers"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="0: the coordinator alone")
    parser.add_argument("--clients", type=int, default=32, help="all of them answer each round")
    parser.add_argument("--params", type=int, default=199_210, help="numbers in the model")
    parser.add_argument("--codec", default="full")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    os.environ["FEDMQTT_BENCH_PARAMS"] = str(arguments.params)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        broker = stack.enter_context(start_broker("mosquitto"))
        print(json.dumps(_measured(arguments, Path(folder), broker.url, stack)))
    return 0


def _measured(
    arguments: argparse.Namespace, folder: Path, url: str, stack: ExitStack
) -> dict[str, object]:
    config = folder / "federation.toml"
    config.write_text(_settings(arguments))
    run = folder / "run"
    coordinator = stack.enter_context(
        _program(*("-m", "fedmqtt", "coordinator", str(config), "--broker", url, "--run", str(run)))
    )
    logs = [folder / f"w{number}.log" for number in range(arguments.workers)]
    workers = [
        stack.enter_context(
            _program(
                *("-m", "fedmqtt", "worker", str(config), "--broker", url),
                *("--name", log.stem),
                log=log,
            )
        )
        for log in logs
    ]
    _wait_until(lambda: all("listening to" in log.read_text() for log in logs), coordinator)
    ids = [f"c{number}" for number in range(arguments.clients)]
    words = ("--broker", url, "--federation", _FEDERATION, "--state", str(folder / "clients"))
    stack.enter_context(_program(str(_HERE / "echo_clients.py"), *words, *ids))
    _wait_for(run, 1, coordinator)
    began, before = time.monotonic(), _cpu_s(coordinator, *workers)
    _wait_for(run, arguments.rounds + 1, coordinator)
    took_s = time.monotonic() - began
    after = _cpu_s(coordinator, *workers)
    updates = arguments.rounds * arguments.clients
    used_ms = [1000 * (end - start) for start, end in zip(before, after, strict=True)]
    return {
        "workers": arguments.workers,
        "clients": arguments.clients,
        "params": arguments.params,
        "codec": arguments.codec,
        "rounds": arguments.rounds,
        "processors": len(os.sched_getaffinity(0)),
        "updates_per_s": round(updates / took_s, 2),
        "coordinator_cpu_ms_per_update": round(used_ms[0] / updates, 3),
        "workers_cpu_ms_per_update": round(sum(used_ms[1:]) / updates, 3),
        "coordinator_peak_rss_mb": round(processes.peak_rss_mb(coordinator.pid), 1),
        "worker_peak_rss_mb": round(
            max([processes.peak_rss_mb(one.pid) for one in workers] or [0]), 1
        ),
    }


def _settings(arguments: argparse.Namespace) -> str:
    lanes = 32 if arguments.workers else 0
    return (
        f'name = "{_FEDERATION}"\ntask = "benchmarks.echo_task"\ncodec = "{arguments.codec}"\n'
        f"[rounds]\ncount = 0\ncohort = {arguments.clients}\nquorum = {arguments.clients}\n"
        f"clients_min = {arguments.clients}\nover_selection = 1.0\ndeadline_s = 1000\n"
        f"[evaluation]\nevery = 0\n[tuning]\nenabled = false\n[checkpoint]\nkeep = 0\n"
        f"[workers]\nlanes = {lanes}\n"
    )


@contextmanager
def _program(*words: str, log: Path = Path(os.devnull)) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=_HERE.parent,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def _wait_for(run: Path, rounds: int, coordinator: subprocess.Popen[bytes]) -> None:
    """Until so many rounds have made a model."""
    path = run / "history.jsonl"
    _wait_until(lambda: path.exists() and len(history.read(path)) >= rounds, coordinator)


def _wait_until(holds: Callable[[], bool], coordinator: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + _WITHIN_S
    while not holds():
        if coordinator.poll() is not None or time.monotonic() > give_up_at:
            raise SystemExit("the rounds did not go on: try fewer clients, or a smaller model")
        time.sleep(0.02)


def _cpu_s(*programs: subprocess.Popen[bytes]) -> list[float]:
    return [processes.cpu_s(one.pid) for one in programs]


if __name__ == "__main__":
    sys.exit(main())

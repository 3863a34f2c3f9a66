"""What one client that publishes as fast as it can does to the rounds of the others.

A real broker, the real coordinator, N agents in one process (`round_overhead.py`); and a flood
(`flooder.py`) that has begun before the coordinator starts. Prints one JSON line: of each kind of
flood, and of none,

    round_s          median wall time of a round
    longest_round_s  of the measured ones
    coordinator_cpu  CPU seconds of the coordinator in a second
    coordinator_mb   its peak resident memory, in MB of 10^6 bytes
    broker_cpu, broker_mb   of the broker, likewise; its memory at the end
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.processes import children, cpu_s, rss_mb
from benchmarks.round_overhead import FEDERATION, federation_options
from broker_config.local_broker import start_broker

FLOODS: dict[str, list[str]] = {
    "none": [],
    "junk": ["--kind", "junk"],
    "junk, QoS 1": ["--kind", "junk", "--qos", "1"],
    "junk of 1 MB": ["--kind", "junk", "--size", "1000000"],
    "chunks of 100 kB": ["--kind", "chunks", "--size", "100000"],
    "presence": ["--kind", "presence", "--qos", "1"],
}


def main() -> int:
    arguments = _parse()
    figures = {name: _measure(FLOODS[name], arguments) for name in arguments.floods}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _measure(words: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        broker = stack.enter_context(start_broker(arguments.broker))
        pids = children(os.getpid())
        if words:
            stack.enter_context(flooding(broker.url, FEDERATION, *words))
        command = [sys.executable, str(ROOT / "benchmarks" / "round_overhead.py"), "--in-process"]
        command += ["--broker", broker.url, "--clients", str(arguments.clients)]
        command += ["--params", str(arguments.params), "--rounds", str(arguments.rounds)]
        command += ["--signed"] if arguments.signed else []
        began, used = time.perf_counter(), sum(map(cpu_s, pids))
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        span_s = time.perf_counter() - began
        found = json.loads(ended.stdout)
        return {
            "round_s": found["round_s"],
            "longest_round_s": found["longest_round_s"],
            "coordinator_cpu": round(
                found["coordinator_cpu_s_per_update"] * found["updates_per_s"], 3
            ),
            "coordinator_mb": found["coordinator_peak_rss_mb"],
            "broker_cpu": round((sum(map(cpu_s, pids)) - used) / span_s, 3),
            "broker_mb": round(sum(map(rss_mb, pids)), 1),
        }


@contextmanager
def flooding(url: str, federation: str, *words: str) -> Iterator[None]:
    """For as long as the block lasts, a client floods this federation."""
    command = [sys.executable, str(ROOT / "benchmarks" / "flooder.py"), "--broker", url]
    with subprocess.Popen(
        [*command, "--federation", federation, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield
            if process.poll() is not None:
                raise RuntimeError(f"the flood ended before it was to: {' '.join(words)}")
        finally:
            process.kill()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[federation_options()],
    )
    parser.add_argument("--broker", default="mosquitto", help="mosquitto, embedded or mqtt://...")
    parser.add_argument("floods", nargs="*", default=list(FLOODS), help="of: " + ", ".join(FLOODS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Whether the coordinator's memory grows with the answers of a round: it must not.

Runs `round_overhead.py` with few clients and with many, all in one process, and prints one line of
JSON: the coordinator's peak resident memory in both, in MB of 10^6 bytes, and their ratio.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--params", type=int, default=1_663_370)
    parser.add_argument("--rounds", type=int, default=1, help="after those that warm up")
    arguments = parser.parse_args()
    few, many = (_peak_mb(arguments, count) for count in (arguments.few, arguments.many))
    figures = {
        "params": arguments.params,
        f"peak_rss_mb_{arguments.few}": few,
        f"peak_rss_mb_{arguments.many}": many,
        "ratio": round(many / few, 3),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _peak_mb(arguments: argparse.Namespace, clients: int) -> float:
    program = Path(__file__).with_name("round_overhead.py")
    words = ["--clients", str(clients), "--params", str(arguments.params), "--in-process"]
    words += ["--rounds", str(arguments.rounds), "--warm-up", "1"]
    ended = subprocess.run(
        [sys.executable, str(program), *words], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    figures: dict[str, Any] = json.loads(ended.stdout)
    peak_mb: float = figures["coordinator_peak_rss_mb"]
    return peak_mb


if __name__ == "__main__":
    sys.exit(main())

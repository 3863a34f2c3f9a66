"""What a client costs a device while it waits for a round. Prints one JSON line:

rss_mb       resident memory of the agent, idle and connected, in MB of 10^6 bytes
cpu_percent  of one core, over the seconds it was watched
start_s      from starting the program to its presence on the broker
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.processes import cpu_s, idle_agent, rss_mb
from broker_config.local_broker import start_broker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="auto", help="mosquitto, embedded or mqtt://...")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch it idle")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with (
        start_broker(arguments.broker) as broker,
        TemporaryDirectory() as state,
        idle_agent(broker.url, Path(state)) as (pid, start_s),
    ):
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(arguments.seconds)
        used, lasted = cpu_s(pid) - before, time.monotonic() - began
        figures = {
            "rss_mb": round(rss_mb(pid), 1),
            "cpu_percent": round(100 * used / lasted, 4),
            "start_s": round(start_s, 3),
            "watched_s": round(lasted, 1),
            "broker": broker.name,
        }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

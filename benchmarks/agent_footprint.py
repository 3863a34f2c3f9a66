"""What a client costs a device while it waits for a round. Prints one JSON line:

rss_mb       resident memory of the agent, idle and connected, in MB of 10^6 bytes
cpu_percent  of one core, over the seconds it was watched
start_s      from starting the program to its presence on the broker

With `--credentials DEVICE MONITOR`, the files of a kit whose broker runs: as a device that is
connected by TLS and, where the kit has keys, checks what its coordinator signs.
"""

import argparse
import json
import logging
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.processes import cpu_s, idle_agent, idle_agent_of, rss_mb
from broker_config.local_broker import start_broker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="auto", help="mosquitto, embedded or mqtt://...")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch it idle")
    parser.add_argument("--credentials", nargs=2, type=Path, metavar=("DEVICE", "MONITOR"))
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with ExitStack() as stack:
        state = Path(stack.enter_context(TemporaryDirectory()))
        if arguments.credentials:
            name = "a kit's"
            device, monitor = arguments.credentials
            agent = idle_agent_of(device, monitor, state)
        else:
            broker = stack.enter_context(start_broker(arguments.broker))
            name = broker.name
            agent = idle_agent(broker.url, state)
        pid, start_s = stack.enter_context(agent)
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(arguments.seconds)
        used, lasted = cpu_s(pid) - before, time.monotonic() - began
        figures = {
            "rss_mb": round(rss_mb(pid), 1),
            "cpu_percent": round(100 * used / lasted, 4),
            "start_s": round(start_s, 3),
            "watched_s": round(lasted, 1),
            "broker": name,
        }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How large a fleet the virtual mode carries where nothing is learned.

A million known clients, a thousand a round: prints one line of JSON with the seconds it took and
the peak resident memory in MB of 10^6 bytes.
"""

import argparse
import json
import resource
import sys
import time

from fleet_sim import fleet
from fleet_sim.lab import Lab


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--cohort", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    began = time.monotonic()
    planned = fleet.read(
        fleet.preset("calm"),
        [
            f"clients={arguments.clients}",
            f"federation.rounds.count={arguments.rounds}",
            f"federation.rounds.cohort={arguments.cohort}",
            f"federation.rounds.quorum={arguments.cohort}",
            f"federation.rounds.clients_min={arguments.clients}",
            "federation.evaluation.every=0",
            "data.evaluate=clients",
        ],
    )
    crew = planned.crew([f"client-{n:07}" for n in range(arguments.clients)])
    lab = Lab(planned, crew, lambda client, purpose: 100, None)
    lab.run()
    figures = {
        "clients": arguments.clients,
        "rounds": len(lab.records),
        "answered": sum(len(record.answered) for record in lab.records),
        "seconds": round(time.monotonic() - began, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3, 1),
        "trace": lab.trace,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

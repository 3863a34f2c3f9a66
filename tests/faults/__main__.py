"""The fault benchmark: every fault of scenarios.py, done to real programs and a real Mosquitto.

    make faults                                      all of it, some minutes; writes docs/faults.md
    python -m tests.faults --only link-cut standby   some of it; writes nothing
    python -m tests.faults --list
    python -m tests.faults --cluster nats --workers 2 --standby --ledger postgresql

The last does to a cluster, workers, two coordinators and a PostgreSQL server what can be done to
those; it writes nothing either.

Exits with 1 when a requirement does not hold. Linux only.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from broker_config.child import BrokerError
from tests.clusters import CLUSTERS
from tests.faults import table
from tests.faults.arrangement import ON_A_LAPTOP, Arrangement, Ground, running
from tests.faults.own_mosquitto import mosquitto_version
from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Row, Stage, Theatre, play

PAGE = Path("docs/faults.md")
SEED = 1
KILLS = 50
OUTAGE_S = 10.0
AT_ONCE = 2
"""Most of a scenario is waiting: two of them do not disturb one another."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all chance; else {SEED}")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[one.name for one in SCENARIOS]
    )
    parser.add_argument(
        "--kills", type=int, default=KILLS, help=f"of the coordinator; else {KILLS}"
    )
    parser.add_argument("--list", action="store_true", help="the names, and end")
    parser.add_argument("--cluster", choices=list(CLUSTERS), default="", help="three nodes of it")
    parser.add_argument("--workers", type=int, default=0, help="that add answers up; else none")
    parser.add_argument(
        "--standby", action="store_true", help="a second coordinator, on another machine"
    )
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    given = parser.parse_args(words)
    arrangement = Arrangement(
        cluster=given.cluster,
        workers=given.workers,
        standby=given.standby,
        postgresql=given.ledger == "postgresql",
    )
    if arrangement.standby and not arrangement.postgresql:
        parser.error("--standby is one on another machine: it needs --ledger postgresql")
    fitting = [each for each in SCENARIOS if each.fits(arrangement)]
    if given.list:
        for each in fitting:
            print(f"{each.name:<32} {each.fault}")
        return 0
    try:
        versions = f"Mosquitto {mosquitto_version()}, Python {platform.python_version()}"
    except BrokerError as bad:
        print(f"{bad}: make setup-broker", file=sys.stderr)
        return 2
    chosen = [each for each in fitting if not given.only or each.name in given.only]
    try:
        with running(arrangement) as ground:
            rows = _play_all(chosen, given.seed, given.kills, ground)
    except BrokerError as bad:
        print(f"{bad}: make setup-brokers", file=sys.stderr)
        return 2
    print(f"\n{table.markdown(rows)}\n")
    for row in rows:
        for fault in row.faults:
            print(f"FAILED {row.fault}: {fault}")
    if not given.only and arrangement == ON_A_LAPTOP:
        command = f"python -m tests.faults --seed {given.seed} --kills {given.kills}"
        PAGE.write_text(table.page(rows, command, versions), encoding="utf-8")
        print(f"written to {PAGE}")
    return 1 if any(row.faults for row in rows) else 0


def _play_all(chosen: Sequence[Scenario], seed: int, kills: int, ground: Ground) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="fedmqtt-faults-"))
    theatre = Theatre(folder, seed, ground)
    began = time.monotonic()

    def one(scenario: Scenario) -> Row:
        row = play(scenario.play, Stage(theatre, scenario.name, scenario.fault, kills, OUTAGE_S))
        outcome = "FAILED" if row.faults else "ok"
        print(f"{time.monotonic() - began:6.1f} s  {outcome:<7} {scenario.fault}", flush=True)
        return row

    # The longest first, so that nothing is left to wait for alone at the end.
    order = sorted(chosen, key=lambda each: -each.takes_s)
    # What they share, each of them hurts.
    pool = ThreadPoolExecutor(AT_ONCE if ground.arrangement == ON_A_LAPTOP else 1)
    try:
        playing: dict[str, Future[Row]] = {each.name: pool.submit(one, each) for each in order}
        rows = [playing[each.name].result() for each in chosen]
    except KeyboardInterrupt:
        # The programs end with us: their reaper sees to it.
        print("\nstopped", file=sys.stderr, flush=True)
        os._exit(130)
    if any(row.faults for row in rows):
        print(f"\nlogs and runs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return rows


if __name__ == "__main__":
    sys.exit(main())

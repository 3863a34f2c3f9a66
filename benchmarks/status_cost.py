"""What clients' pages cost the coordinator, while a thousand clients answer round after round.

A real broker, the real coordinator, and agents in one process that return the model plus tiny
noise, as in `round_overhead.py`: with pages of clients and without, in turns. One JSON line:

    cpu_s_per_update          of the coordinator, in the median of the turns with pages
    cpu_s_per_update_without  the same without
    status_share              of the coordinator's CPU, what was spent on all pages, those of the
                              federation too: noting what is heard, building, encoding, sending;
                              but for what is said once, at the very end, and for what it takes to
                              read the clock
    end_cpu_s                 that: the pages of all clients that have changed, when it ends
    status_ratio              the quotient of the first two: that, the link's part, and noise
    pages                     how many were published in a turn
    activities                how many presences told only what a client does
    coordinator_busy          CPU seconds of the coordinator per second
    status_of_a_core          CPU seconds spent on pages per second
"""

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.round_overhead import TURNS, WARM_UP, federation_options, measure
from broker_config.local_broker import start_broker
from coordinator.config import StatusSettings
from coordinator.pages.client_pages import ClientPages
from coordinator.service import Service


class Spent:
    """CPU time in the pages' own code, and how much of it there was to do."""

    cpu_s = 0.0
    end_cpu_s = 0.0
    pages = 0
    activities = 0
    is_inside = False


def _timed(action: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*words: Any, **more: Any) -> Any:
        if Spent.is_inside:
            return action(*words, **more)
        Spent.is_inside = True
        # Twice, as to read the clock takes more than to note what a client said, and more than that
        # where the program has just done something else: how much is found out here each time.
        before = time.thread_time()
        began = time.thread_time()
        try:
            return action(*words, **more)
        finally:
            Spent.cpu_s += time.thread_time() - began - (began - before)
            Spent.is_inside = False

    return timed


def _watch_pages() -> None:
    """From now on, of all coordinators in this process."""
    came, say = ClientPages.came, ClientPages._say

    def counting_came(*words: Any, **more: Any) -> Any:
        heard, is_no_news = came(*words, **more)
        Spent.activities += is_no_news
        return heard, is_no_news

    def counting_say(*words: Any) -> None:
        Spent.pages += 1
        say(*words)

    say_all = ClientPages.say_all

    def apart(*words: Any, **more: Any) -> None:
        before = Spent.cpu_s
        _timed(say_all)(*words, **more)
        Spent.cpu_s, Spent.end_cpu_s = before, Spent.end_cpu_s + Spent.cpu_s - before

    ClientPages.say_all = apart  # type: ignore[method-assign]
    inner = {"came": counting_came, "_say": counting_say}
    for name in ("look", "found", "came", "sign", "changed", "_say_some", "_say"):
        setattr(ClientPages, name, _timed(inner.get(name, getattr(ClientPages, name))))
    Service._say_status = _timed(Service._say_status)  # type: ignore[method-assign]


def main() -> int:
    arguments = _parse()
    logging.disable(logging.INFO)
    os.environ["FEDMQTT_BENCH_PARAMS"] = str(arguments.params)
    _watch_pages()
    with TemporaryDirectory() as scratch, start_broker(arguments.broker) as broker:
        turns: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for turn in range(arguments.turns):
            for has_pages in (True, False):
                folder = Path(scratch) / f"{turn}-{has_pages}"
                turns[has_pages].append(_turn(arguments, broker, folder, has_pages=has_pages))
    with_pages, without = (_median(turns[has], "cpu_s_per_update") for has in (True, False))
    figures = {
        "clients": arguments.clients,
        "params": arguments.params,
        "rounds": arguments.rounds,
        "cpu_s_per_update": round(with_pages, 6),
        "cpu_s_per_update_without": round(without, 6),
        "status_ratio": round(with_pages / without, 4),
        **{
            name: round(_median(turns[True], name), 5)
            for name in (
                "status_share",
                "end_cpu_s",
                "pages",
                "activities",
                "coordinator_busy",
                "status_of_a_core",
            )
        },
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _turn(
    arguments: argparse.Namespace, broker: Any, folder: Path, *, has_pages: bool
) -> dict[str, float]:
    Spent.cpu_s, Spent.end_cpu_s, Spent.pages, Spent.activities = 0.0, 0.0, 0, 0
    began, cpu_before = time.perf_counter(), time.process_time()
    found = measure(arguments, broker, folder, status=StatusSettings(clients=has_pages))
    took_s, used_s = time.perf_counter() - began, time.process_time() - cpu_before
    return {
        "cpu_s_per_update": found["coordinator_cpu_s_per_update"],
        "status_share": Spent.cpu_s / (used_s - Spent.end_cpu_s),
        "end_cpu_s": Spent.end_cpu_s,
        "pages": Spent.pages,
        "activities": Spent.activities,
        "coordinator_busy": used_s / took_s,
        "status_of_a_core": Spent.cpu_s / took_s,
    }


def _median(turns: list[dict[str, float]], name: str) -> float:
    return statistics.median(turn[name] for turn in turns)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[federation_options()],
    )
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--broker", default="auto", help="mosquitto, embedded or mqtt://...")
    parser.set_defaults(clients=1000, params=50_000, rounds=5, in_process=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

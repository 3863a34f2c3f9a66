"""Each benchmark runs, however small, and prints one line of JSON with what it promises."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from broker_config.mosquitto import find_mosquitto
from tests.patience import ENDS_WITHIN_S

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="they read /proc"),
]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def table(program: str, *words: str) -> list[list[str]]:
    """The words of each line behind its head."""
    return [line.split() for line in _said(program, *words).splitlines()[1:]]


def figures(program: str, *words: str) -> dict[str, Any]:
    (line,) = _said(program, *words).splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def _said(program: str, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / program), *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("words", [[], ["--in-process"]])
def test_a_round_has_its_cost(words: list[str]) -> None:
    found = figures(
        "round_overhead.py", "--clients", "2", "--params", "1000", "--rounds", "2", *words
    )
    assert list(found) == [
        "clients",
        "params",
        "rounds",
        "processes",
        "broker",
        "round_s",
        "longest_round_s",
        "updates_per_s",
        "cpu_s_per_update",
        "coordinator_cpu_s_per_update",
        "broker_cpu_s_per_update",
        "clients_cpu_s_per_update",
        "coordinator_peak_rss_mb",
        "bytes_per_round",
        "client_idle_rss_mb",
    ]
    assert (found["clients"], found["params"], found["rounds"]) == (2, 1000, 2)
    assert found["processes"] == (1 if words else 2)
    # Two models down, two updates up, each of them twice: sent and received.
    assert found["bytes_per_round"] > 2 * 4 * 4000 - 4000
    measured = ("round_s", "updates_per_s", "cpu_s_per_update", "client_idle_rss_mb")
    assert all(found[name] > 0 for name in measured)


def test_a_flood_has_its_cost() -> None:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed here")
    found = figures("flood.py", "--clients", "2", "--params", "1000", "--rounds", "2", "junk")
    assert found["junk"]["round_s"] > 0 and found["junk"]["coordinator_cpu"] > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_take_something_off_the_coordinator(workers: int) -> None:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed here")
    words = ["--workers", str(workers), "--clients", "3", "--params", "1000", "--rounds", "2"]
    found = figures("workers.py", *words)
    assert (found["workers"], found["rounds"]) == (workers, 2)
    assert found["updates_per_s"] > 0 and found["coordinator_cpu_ms_per_update"] > 0
    assert (found["workers_cpu_ms_per_update"] > 0) == bool(workers)


def test_durability_has_its_cost() -> None:
    words = ["--clients", "2", "--params", "1000", "--rounds", "2", "--in-process"]
    found = figures("round_overhead.py", *words, "--durability-cost")
    assert found["durability_round_s"] > 0 and found["durability_cpu_s_per_update"] > 0


def test_the_coordinators_memory_is_compared() -> None:
    found = figures("coordinator_memory.py", "--few", "2", "--many", "4", "--params", "1000")
    assert list(found) == ["params", "peak_rss_mb_2", "peak_rss_mb_4", "ratio"]
    assert found["ratio"] == round(found["peak_rss_mb_4"] / found["peak_rss_mb_2"], 3)


def test_a_codec_has_its_cost() -> None:
    words = ["--params", "5000", "--repeats", "2", "--codecs", "full", "part(share=0.25)+eden"]
    found = figures("codec_cost.py", *words)
    assert found["params"] == 5000
    full, few = found["codecs"].values()
    assert list(found["codecs"]) == ["full", "part(share=0.25)+eden"]
    assert full["bytes_per_number"] == 4
    # A block of 1,024 and one of 256: two scales, and a bit for each of 1,280 numbers.
    assert few["bytes_per_number"] == round((2 * 4 + 1280 / 8) / 5000, 4)
    assert all(value > 0 for cost in (full, few) for value in cost.values())


def test_a_codec_for_models_has_its_cost_on_both_sides() -> None:
    words = ["--params", "5000", "--repeats", "2", "--codecs", "full", "int8"]
    found = figures("downlink_cost.py", *words)
    full, coded = found["codecs"].values()
    assert list(full) == ["publish_ms"]
    assert 1 < coded["bytes_per_number"] < 1.1
    assert all(value > 0 for cost in (full, coded) for value in cost.values())


def test_an_idle_client_has_its_footprint() -> None:
    found = figures("agent_footprint.py", "--seconds", "0.2")
    assert list(found) == ["rss_mb", "cpu_percent", "start_s", "watched_s", "broker"]
    # 30 is what it should take: it has 30.2 here, and 0.3 of them are of typing_extensions, which
    # msgspec loads where it is installed (for torch).
    assert 0 < found["rss_mb"] <= 31
    assert found["start_s"] > 0 and found["cpu_percent"] >= 0


def test_signatures_have_their_cost() -> None:
    words = ["--clients", "2", "--params", "1000", "--rounds", "1", "--in-process"]
    found = figures("round_overhead.py", *words, "--signed")
    assert found["updates_per_s"] > 0 and found["rounds"] == 1


def test_status_pages_have_their_cost() -> None:
    words = ["--clients", "2", "--params", "1000", "--rounds", "2", "--warm-up", "1"]
    found = figures("status_cost.py", *words, "--turns", "1")
    assert list(found) == [
        "clients",
        "params",
        "rounds",
        "cpu_s_per_update",
        "cpu_s_per_update_without",
        "status_ratio",
        "status_share",
        "end_cpu_s",
        "pages",
        "activities",
        "coordinator_busy",
        "status_of_a_core",
    ]
    assert 0 < found["status_share"] < 1
    assert found["cpu_s_per_update"] > 0 and found["cpu_s_per_update_without"] > 0


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_known_clients_have_their_cost(quiet: list[str]) -> None:
    words = ["--clients", "20", "--cohort", "2", "--rounds", "4"]
    (found,) = table("fleet_size.py", *words, *quiet)
    count, is_quiet, rss_mb, start_s, round_ms = found
    assert (count, is_quiet) == ("20", "yes" if quiet else "no")
    assert float(rss_mb) > 10 and float(start_s) > 0 and float(round_ms) > 0


def test_a_quiet_fleet_is_simulated_round_by_round() -> None:
    found = table("quiet_fleet.py", "--clients", "2000", "--cohort", "10", "--rounds", "3")
    assert [words[0] for words in found] == ["1", "2", "3"]


def test_idle_clients_have_their_cost() -> None:
    *ways, wire = table("broker_memory.py", "--clients", "50", "--wire-s", "1")
    assert len(ways) == 4 and wire[0] == "idle,"

"""The benchmark of training in simulation runs, however small, and says what it promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_sim.training.group import TOLERANCE
from tests.patience import ENDS_WITHIN_S

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "simulation_speed.py"


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="it reads /proc")
def test_training_in_simulation_has_its_speed() -> None:
    words = ["--clients", "4", "--samples", "20", "--cohort", "4", "--turns", "1"]
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), *words, "--processes", "1"],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    digits, devices = map(json.loads, ended.stdout.splitlines())
    for found in (digits, devices):
        assert list(found) == [
            "model",
            "params",
            "clients",
            "cohort",
            "processes",
            "device",
            "plain_per_s",
            "alone_per_s",
            "ours_per_s",
            "ratio",
            "cpu_ratio",
            "difference_median",
            "difference_max",
        ]
        assert (found["cohort"], found["processes"]) == (4, 1)
        assert all(found[name] > 0 for name in ("plain_per_s", "alone_per_s", "ours_per_s"))
        assert found["ratio"] == pytest.approx(found["ours_per_s"] / found["plain_per_s"], rel=0.05)
        assert found["cpu_ratio"] > 0
        assert 0 <= found["difference_median"] < TOLERANCE
        assert found["difference_median"] <= found["difference_max"]
    assert (digits["model"], digits["params"], digits["clients"]) == ("mnist_2nn", 199_210, 4)
    assert (devices["model"], devices["params"], devices["clients"]) == ("phonewatch", 36_069, 34)

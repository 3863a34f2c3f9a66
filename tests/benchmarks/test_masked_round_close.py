"""How long a round takes to close is measured masked and plain, with real keyholders."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from broker_config.mosquitto import find_mosquitto
from tests.patience import ENDS_WITHIN_S

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads /proc"),
]

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "masked_round_close.py"


def test_each_mode_has_its_time_and_the_parts_of_a_masked_one_add_up() -> None:
    words = ["--params", "2000", "--clients", "3", "--rounds", "1"]
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    plain, masked = (json.loads(line) for line in ended.stdout.splitlines())
    assert (plain["mode"], masked["mode"]) == ("plain", "keyholders")
    assert plain["rounds"] == masked["rounds"] == 1
    assert plain["close_s"] > 0 and "keyholders_s" not in plain
    parts = [masked[name] for name in ("check_s", "keyholders_s", "model_s")]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(masked["close_s"], abs=0.002)

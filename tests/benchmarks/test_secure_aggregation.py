"""The cost of masking is measured in each mode, beside plain answers."""

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import ENDS_WITHIN_S

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "secure_aggregation.py"


def test_each_mode_has_its_cost_and_the_sums_are_exact() -> None:
    words = ["--params", "2000", "--clients", "4", "20", "--dropout", "0", "0.5", "--played", "4"]
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), *words, "--repeats", "1"],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["mode"] for line in lines[::4]] == [
        "plain",
        "trusted",
        "keyholders",
        "four keyholders",
        "keyholders, 4 bits of a rotated quarter",
        "keyholders, 12 bits",
        "committee, 12 bits",
        "committee, 4 bits of a rotated quarter",
    ]
    assert [line["there"] for line in lines[:4]] == [4, 2, 20, 10]
    assert [line["totals"] for line in lines[:4]] == ["measured"] * 2 + ["computed"] * 2
    masked = [line for line in lines if line["mode"] == "keyholders"]
    # Of three keyholders each sends one vector, whoever is there: 22 bits for 4, 25 for 20.
    assert [line["keyholder_bytes_out"] // 100 for line in masked] == [57, 57, 64, 64]
    assert all(line["keyholder_ms"] > 0 and line["client_ms"] > 0 for line in masked)
    assert all(line["keystream_ms"] > 0 for line in masked)
    hidden = [line for line in lines if line["mode"] == "committee, 12 bits"]
    # 2,048 numbers of 9 or 11 bits, however large the model is.
    assert [line["keyholder_bytes_out"] // 100 for line in hidden] == [24, 24, 30, 30]
    assert {line["client_beside_bytes_above_plain"] for line in masked} <= set(range(300, 401))

"""A program behind the shifted clock sees the jump, however it asks what time it is."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, logging, pathlib, sys, time
from datetime import UTC, datetime

def told():
    record = logging.LogRecord("", 0, "", 0, "", (), None)
    return [
        time.time(), time.time_ns() / 1e9, datetime.now(UTC).timestamp(),
        datetime.now().timestamp(), record.created, time.mktime(time.localtime()),
    ]

before, began = told(), time.monotonic()
pathlib.Path(sys.argv[1]).write_text("36000")
print(json.dumps([before, told(), time.monotonic() - began, datetime.now(UTC).isoformat()]))
"""


def test_all_clocks_of_the_day_jump_and_measured_time_does_not(tmp_path: Path) -> None:
    (tmp_path / "ask_for_the_time.py").write_text(PROGRAM)
    offset = tmp_path / "offset_s"
    words = ["tests.faults.shifted_clock", str(offset), "ask_for_the_time", str(offset)]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, took_s, stamp = json.loads(ran.stdout)
    # To the second and the time it took, ten hours.
    assert all(36_000 - 2 < b - a < 36_000 + 2 + took_s for a, b in zip(before, after, strict=True))
    assert 0 <= took_s < 3600
    now = datetime.datetime.now(datetime.UTC)
    assert datetime.datetime.fromisoformat(stamp) - now > datetime.timedelta(hours=9)
    assert "shifted clock: +36000 s" in ran.stderr

"""What a benchmark started does not outlive it, even when it is killed itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.programs import wait_until

ROOT = Path(__file__).parents[2]

STARTER = """
import subprocess, sys
from tests.faults.reaper import reaping
with reaping() as reaper:
    # It takes a while to see that nobody reads its output any more: for ever.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    reaper.watch(child.pid)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_a_watched_process_ends_with_its_starter(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        assert child.is_running()
        os.kill(starter.pid, signal.SIGKILL)
        # Whoever inherits it may take its time to bury it.
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)

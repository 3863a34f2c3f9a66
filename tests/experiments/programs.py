"""Experiments as people start them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.patience import ENDS_WITHIN_S

ROOT = Path(__file__).resolve().parents[2]


def run(program: str, words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "experiments" / program), *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


def result(program: str, words: list[str]) -> dict[str, Any]:
    """Its last line."""
    ended = run(program, words)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found

"""`fedmqtt health` says that a coordinator works when one does, and only then."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from tests.own_broker import free_port
from tests.patience import ENDS_WITHIN_S
from tests.programs import running
from tests.test_federation import LINEAR, coordinator_of, three_of_all, write_config

pytestmark = pytest.mark.broker


def _health(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedmqtt", "health", *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


def test_it_tells_a_coordinator_that_works_from_one_that_hangs_or_is_gone(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR, three_of_all(0))
    words = ("--broker", broker.url, "--federation", federation_name)
    with running(tmp_path, *coordinator_of(config, broker.url, tmp_path / "run")) as coordinator:
        works = _health(*words, "--within", "60")
        assert "is coordinated at" in works.stdout, coordinator.log

        coordinator.process.send_signal(signal.SIGSTOP)
        hangs = _health(*words, "--within", "2")
        coordinator.process.send_signal(signal.SIGCONT)
        assert (hangs.returncode, hangs.stdout) == (1, "")
        assert "no coordinator answers" in hangs.stderr

        assert _health(*words, "--within", "60").returncode == 0
        coordinator.process.kill()
        coordinator.wait()
    gone = _health(*words, "--within", "2")
    assert gone.returncode == 1
    assert "no coordinator answers" in gone.stderr


def test_without_a_broker_it_says_so() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    asked = _health("--broker", url, "--federation", "demo", "--within", "1")
    assert asked.returncode == 1
    assert f"cannot reach {url}" in asked.stderr


def test_it_asks_nobody_over_a_line_that_others_read() -> None:
    asked = _health("--broker", "mqtt://broker.example", "--federation", "demo")
    assert asked.returncode == 2
    assert "is not encrypted" in asked.stderr

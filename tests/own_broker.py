"""A Mosquitto of a test's own, at a port of its choice: to end, to restart, to set up badly."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from broker_config.mosquitto import find_mosquitto
from tests.patience import WITHIN_S


@contextmanager
def mosquitto_at(port: int, *lines: str) -> Iterator[subprocess.Popen[bytes]]:
    """It keeps nothing when it ends. `lines` go into its configuration."""
    mosquitto = find_mosquitto()
    if mosquitto is None:
        pytest.skip("Mosquitto is not installed here")
    with TemporaryDirectory(prefix="fedmqtt-own-broker-") as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text("\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", *lines]))
        command = [str(mosquitto), "-c", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield process
            finally:
                process.kill()
                process.wait(WITHIN_S)


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """No two of them the same."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]

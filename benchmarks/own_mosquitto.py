"""A Mosquitto for one benchmark, which holds back nothing: its queues have no limit."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from broker_config.mosquitto import find_mosquitto

_STARTS_WITHIN_S = 10.0


@contextmanager
def own_mosquitto() -> Iterator[tuple[int, int]]:
    """Its process id and its port on loopback. Raises SystemExit where there is none."""
    mosquitto = find_mosquitto()
    if mosquitto is None:
        raise SystemExit("Mosquitto is not installed here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    lines = (f"listener {port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0")
    with TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        command = [str(mosquitto), "-c", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_for(port)
                yield process.pid, port
            finally:
                process.kill()


def _wait_for(port: int) -> None:
    give_up_at = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)

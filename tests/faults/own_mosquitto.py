"""A Mosquitto for one scenario: stopped, killed and started again at the same port.

It runs the `mosquitto.conf` that people deploy, moved to another port and folder, with or without
what lets it survive its own death.
"""

import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker_config.child import BrokerError
from broker_config.mosquitto import DEPLOYED_CONFIG, find_mosquitto
from tests.faults.reaper import Reaper
from tests.patience import WITHIN_S
from tests.programs import wait_until

_SET_HERE = ("listener", "persistence", "autosave", "user")
_READY = re.compile(r"mosquitto version (\S+) running")
# Below what systems give to outgoing connections: nobody takes the port while the broker is away.
_PORTS = range(20_000, 30_000)


class OwnMosquitto:
    """Made by `own_mosquitto`. It runs until it is told otherwise."""

    def __init__(self, folder: Path, reaper: Reaper, *, persistent: bool) -> None:
        executable = find_mosquitto()
        if executable is None:
            raise BrokerError("Mosquitto is not installed here")
        self._reaper = reaper
        self._log = folder / "mosquitto.log"
        self.port = _free_port()
        config = folder / "mosquitto.conf"
        config.write_text("\n".join(_config(self.port, folder, persistent=persistent)))
        self._command = [str(executable), "-c", str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """It accepts connections when this returns."""
        assert self._process is None
        self._starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._reaper.watch(self._process.pid)
        wait_until(lambda: len(_READY.findall(self._log.read_text())) == self._starts)

    def stop(self) -> None:
        """In good order, as for an upgrade: what is to persist is written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut: it writes and says nothing more."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(WITHIN_S)
        self._process = None


@contextmanager
def own_mosquitto(
    folder: Path, reaper: Reaper, *, persistent: bool = False
) -> Iterator[OwnMosquitto]:
    """Running when the block begins, and gone when it ends. Raises BrokerError."""
    broker = OwnMosquitto(folder, reaper, persistent=persistent)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


def mosquitto_version() -> str:
    """Raises BrokerError."""
    executable = find_mosquitto()
    if executable is None:
        raise BrokerError("Mosquitto is not installed here")
    # Its help goes with an exit code of its own.
    said = subprocess.run([executable, "-h"], capture_output=True, text=True, check=False).stdout
    return said.split("\n", 1)[0].removeprefix("mosquitto version ")


def _config(port: int, folder: Path, *, persistent: bool) -> list[str]:
    deployed = DEPLOYED_CONFIG.read_text(encoding="utf-8").splitlines()
    lines = [line for line in deployed if not line.startswith(_SET_HERE)]
    lines += [f"listener {port} 127.0.0.1", "log_type information"]
    if persistent:
        # Written at each change: the killed broker remembers everything up to its last second.
        lines += ["persistence true", f"persistence_location {folder}{os.sep}"]
        lines += ["autosave_on_changes true", "autosave_interval 1"]
    if os.geteuid() == 0:
        # Started by root, Mosquitto becomes the user `mosquitto`, who may not write to our folder.
        lines.append("user root")
    return [*lines, ""]


def _free_port() -> int:
    for port in random.sample(_PORTS, len(_PORTS)):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise BrokerError("no port is free for a broker")

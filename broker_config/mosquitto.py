"""A Mosquitto of our own: a child process on a free loopback port, gone when we are.

It runs the `mosquitto.conf` that people deploy, moved to another port and a temporary folder, so
that trying out and testing meet the broker that production has.
"""

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from broker_config.child import BrokerError, PortTaken, running

DEPLOYED_CONFIG = Path(__file__).with_name("mosquitto.conf")

_LEASH = Path(__file__).with_name("leash.py")
# Debian installs it where the PATH of an ordinary user does not look, as do Homebrew and others.
_FOLDERS_BESIDE_PATH = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_SETTINGS_OF_THE_PLACE = ("listener", "persistence_location", "user")
_PORT_TRIES = 5
_READY = re.compile(r"mosquitto version (\S+) running")


def find_mosquitto(folders: Sequence[Path] | None = None) -> Path | None:
    """The mosquitto executable, looked for in `folders` or else in the usual places."""
    places = usual_folders() if folders is None else folders
    found = shutil.which("mosquitto", path=os.pathsep.join(map(str, places)))
    return Path(found) if found else None


def usual_folders() -> list[Path]:
    """Where Mosquitto is installed on the systems we know: the PATH first."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [Path(folder) for folder in (*path, *_FOLDERS_BESIDE_PATH) if folder]


@contextmanager
def running_mosquitto(executable: Path) -> Iterator[tuple[int, str]]:
    """Run a Mosquitto for the duration of the block: its port on 127.0.0.1, and its version."""
    with (
        TemporaryDirectory(prefix="fedmqtt-mosquitto-") as folder,
        ExitStack() as stack,
    ):
        yield _start_on_a_free_port(executable, Path(folder), stack)


@contextmanager
def running_configured(executable: Path, deployed: Path, folder: Path) -> Iterator[Path]:
    """Run a Mosquitto from this file for the duration of the block: its log, in `folder`.

    Raises PortTaken and BrokerError.
    """
    config, log = folder / "running.conf", _log(folder)
    # So that it says when it runs.
    text = f"{deployed.read_text(encoding='utf-8')}\nlog_type information\n"
    config.write_text(text, encoding="utf-8")
    with running(_command(executable, config), log, _READY):
        yield log


def _start_on_a_free_port(executable: Path, folder: Path, stack: ExitStack) -> tuple[int, str]:
    config = folder / "mosquitto.conf"
    for _ in range(_PORT_TRIES):
        port = _free_port()
        config.write_text(_config(port, folder), encoding="utf-8")
        try:
            ready = stack.enter_context(running(_command(executable, config), _log(folder), _READY))
        except PortTaken:
            continue  # Someone else was given the same port between our look and the start.
        return port, ready[1]
    raise BrokerError(f"Mosquitto found each of {_PORT_TRIES} free ports taken when it started.")


def _free_port() -> int:
    # Mosquitto takes no port 0 and cannot be handed a socket, so a port is tried and let go.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _config(port: int, folder: Path) -> str:
    deployed = DEPLOYED_CONFIG.read_text(encoding="utf-8").splitlines()
    kept = [line for line in deployed if not line.startswith(_SETTINGS_OF_THE_PLACE)]
    moved = [
        f"listener {port} 127.0.0.1",
        f"persistence_location {folder}{os.sep}",
        # Only on this level it says that it is running. Deployed, it would also say at each change
        # that it saves.
        "log_type information",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Started by root, Mosquitto becomes the user `mosquitto`, who may not write to our folder.
        moved.append("user root")
    return "\n".join([*kept, *moved, ""])


def _command(executable: Path, config: Path) -> list[str]:
    # Isolated and without site-packages: the leash needs neither, and is ready in half the time.
    return [sys.executable, "-I", "-S", str(_LEASH), str(executable), "-c", str(config)]


def _log(folder: Path) -> Path:
    return folder / "broker.log"

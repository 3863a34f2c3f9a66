"""A broker to work with: the one you name, or one started here for as long as you need it.

with start_broker("auto") as broker:
    connect(broker.url)
"""

import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from broker_config.child import BrokerError, running
from broker_config.mosquitto import find_mosquitto, running_mosquitto
from fedmqtt.mqtt_link import BrokerUrl, BrokerUrlError, parse_broker_url

__all__ = ["BrokerError", "RunningBroker", "start_broker"]

_REACHABLE_WITHIN_S = 5.0
_EMBEDDED_READY = re.compile(r"embedded broker ready on port (\d+)")


@dataclass(frozen=True)
class RunningBroker:
    """A broker that accepts connections. `name` is what a person is told about it."""

    url: str
    name: str


@contextmanager
def start_broker(
    choice: str, mosquitto_folders: Sequence[Path] | None = None
) -> Iterator[RunningBroker]:
    """The chosen broker, running for the duration of the block.

    `choice` is "mosquitto", "embedded", "auto" (Mosquitto if this machine has it, else the embedded
    one), or the mqtt:// or mqtts:// URL of a broker that runs already. Raises BrokerError.
    """
    match choice:
        case "auto":
            mosquitto = find_mosquitto(mosquitto_folders)
            starting = _mosquitto(mosquitto) if mosquitto else _embedded()
        case "mosquitto":
            starting = _mosquitto(_installed_mosquitto(mosquitto_folders))
        case "embedded":
            starting = _embedded()
        case _:
            starting = _running_already(choice)
    with starting as broker:
        _check_reachable(parse_broker_url(broker.url))
        yield broker


@contextmanager
def _mosquitto(executable: Path) -> Iterator[RunningBroker]:
    with running_mosquitto(executable) as (port, version):
        yield RunningBroker(
            f"mqtt://127.0.0.1:{port}", f"Mosquitto {version} (started here, port {port})"
        )


def _installed_mosquitto(folders: Sequence[Path] | None) -> Path:
    executable = find_mosquitto(folders)
    if executable is None:
        raise BrokerError(
            "Mosquitto is not installed here. Install it (apt install mosquitto, "
            "brew install mosquitto), or choose the embedded broker."
        )
    return executable


@contextmanager
def _embedded() -> Iterator[RunningBroker]:
    version = _amqtt_version()
    # Port 0: it takes a free one itself and says which, so no one can take it in between.
    arguments = ["--port", "0", "--until-stdin-closes"]
    command = [sys.executable, "-m", "broker_config.embedded", *arguments]
    with (
        TemporaryDirectory(prefix="fedmqtt-embedded-") as folder,
        running(command, Path(folder) / "broker.log", _EMBEDDED_READY) as ready,
    ):
        port = ready[1]
        yield RunningBroker(f"mqtt://127.0.0.1:{port}", f"embedded amqtt {version} (port {port})")


def _amqtt_version() -> str:
    try:
        return metadata.version("amqtt")
    except metadata.PackageNotFoundError as error:
        raise BrokerError(
            "The embedded broker is not installed here (pip install 'fedmqtt[broker]')."
        ) from error


@contextmanager
def _running_already(url: str) -> Iterator[RunningBroker]:
    if "://" not in url:
        raise BrokerError(
            f"{url!r} is no broker: expected auto, mosquitto, embedded, "
            "or a URL such as mqtt://pi.local:1883."
        )
    try:
        shown = _without_account(parse_broker_url(url))
    except BrokerUrlError as bad:
        raise BrokerError(f"{bad}.") from bad
    yield RunningBroker(url, f"{shown} (yours)")


def _check_reachable(broker: BrokerUrl) -> None:
    """Any one of its nodes."""
    for node in broker.nodes:
        try:
            with socket.create_connection((node.host, node.port), timeout=_REACHABLE_WITHIN_S):
                return
        except OSError as error:
            why = error.strerror or str(error)
    raise BrokerError(
        f"No broker answers at {_without_account(broker)}: {why}. Start one there, or name another."
    )


def _without_account(broker: BrokerUrl) -> str:
    return str(replace(broker, username=None))

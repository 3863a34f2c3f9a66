"""A kit, and a Mosquitto that runs from it as from the hands of a person who followed the page."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker_config.kit import Kit, Login, Plan
from broker_config.mosquitto import find_mosquitto, running_configured
from fedmqtt import credentials
from fedmqtt.credentials import Credentials
from tests.own_broker import free_ports

FEDERATION = "demo"


@dataclass(frozen=True, slots=True)
class KitBroker:
    kit: Kit
    folder: Path
    log: Path

    def account(self, name: str) -> Credentials:
        return credentials.read(self.folder / "accounts" / f"{name}.toml")

    @property
    def port(self) -> int:
        return self.kit.plan.port

    @property
    def servers_port(self) -> int:
        return self.kit.plan.servers_port


def plan(
    folder: Path, login: Login = "password", days: int = 30, federation: str = FEDERATION
) -> Plan:
    ports = free_ports(2)
    return Plan(
        federation=federation,
        hosts=("localhost",),
        login=login,
        port=ports[0],
        servers_port=ports[1],
        websockets_port=0,
        devices=10,
        place=str(folder / "broker"),
        data=str(folder / "data"),
        days=days,
    )


@contextmanager
def running_kit(made: Kit, folder: Path) -> Iterator[KitBroker]:
    """Mosquitto, from the kit's own file. The caller has seen to it that there is one."""
    executable = find_mosquitto()
    assert executable is not None
    with running_configured(executable, folder / "broker" / "mosquitto.conf", folder) as log:
        yield KitBroker(made, folder, log)


def look_again(log_of: KitBroker) -> None:
    """As a person does it: SIGHUP to the broker, and until it has read its files."""
    pids = subprocess.run(
        ["pgrep", "-f", str(log_of.folder / "running.conf")],
        capture_output=True,
        text=True,
        check=True,
    )
    before = log_of.log.read_text().count("Reloading config")
    for pid in map(int, pids.stdout.split()):
        if "mosquitto" in Path(f"/proc/{pid}/comm").read_text():
            os.kill(pid, signal.SIGHUP)
    while log_of.log.read_text().count("Reloading config") == before:
        os.sched_yield()

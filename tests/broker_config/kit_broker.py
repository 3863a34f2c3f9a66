"""A kit, and a Mosquitto that runs from it as from the hands of a person who followed the page."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker_config import kit
from broker_config.child import running
from broker_config.kit import Kit, Login, Plan
from broker_config.mosquitto import find_mosquitto
from fedmqtt import credentials
from fedmqtt.credentials import Credentials
from tests.own_broker import free_ports

FEDERATION = "demo"
_LEASH = Path(kit.__file__).with_name("leash.py")
_READY = re.compile(r"mosquitto version \S+ running")


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


def plan(folder: Path, login: Login = "password", days: int = 30) -> Plan:
    ports = free_ports(2)
    return Plan(
        federation=FEDERATION,
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
    config = folder / "test.conf"
    text = (folder / "broker" / "mosquitto.conf").read_text(encoding="utf-8")
    # So that its log says when it runs.
    config.write_text(f"{text}\nlog_type information\n", encoding="utf-8")
    log = folder / "broker.log"
    command = [sys.executable, "-I", "-S", str(_LEASH), str(executable), "-c", str(config)]
    with running(command, log, _READY):
        yield KitBroker(made, folder, log)


def look_again(log_of: KitBroker) -> None:
    """As a person does it: SIGHUP to the broker, and until it has read its files."""
    pids = subprocess.run(
        ["pgrep", "-f", str(log_of.folder / "test.conf")],
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

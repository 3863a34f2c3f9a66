"""Brokers to be examined, each with something wrong, and what `fedmqtt doctor` says of them."""

import argparse
import io
import json
import os
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any

from broker_config import child, doctor_command, local_broker
from broker_config.mosquitto import find_mosquitto
from tests.own_broker import free_port

_LEASH = Path(local_broker.__file__).with_name("leash.py")
_FLAGS_BEHIND_NAME, _CLEAN_START = 5, 0x02
"""Of a CONNECT: its name is followed by the version's number, and by the flags (MQTT 5, 3.1.2)."""
_READY = re.compile(r"mosquitto version \S+ running")


@dataclass(frozen=True, slots=True)
class Report:
    exit_code: int
    checks: dict[str, dict[str, Any]]
    left_out: list[str]

    def with_status(self, status: str) -> set[str]:
        return {name for name, check in self.checks.items() if check["status"] == status}

    def says(self, name: str) -> str:
        return str(self.checks[name]["says"])

    def lines_to_change(self, name: str) -> str:
        return "\n".join(self.checks[name]["change"])


def examined(*words: str) -> Report:
    """What `fedmqtt doctor` with these words finds."""
    code, text = said(*words, "--json")
    found = json.loads(text)
    assert found["exit_code"] == code
    return Report(code, {check["check"]: check for check in found["checks"]}, found["left_out"])


def said(*words: str) -> tuple[int, str]:
    """Exit code, and what a person reads."""
    parser = argparse.ArgumentParser()
    doctor_command.add_arguments(parser)
    output = io.StringIO()
    with redirect_stdout(output):
        code = doctor_command.run(parser.parse_args(words))
    return code, output.getvalue()


@contextmanager
def mosquitto_with(folder: Path, *lines: str) -> Iterator[str]:
    """Its address. Open to all of this machine, unless the lines say otherwise."""
    executable = find_mosquitto()
    assert executable is not None
    port = free_port()
    config = folder / "mosquitto.conf"
    known = [f"listener {port} 127.0.0.1", "log_type all", "sys_interval 1"]
    if os.geteuid() == 0:
        known.append("user root")
    if not any(line.startswith("allow_anonymous") for line in lines):
        known.append("allow_anonymous true")
    config.write_text("\n".join([*known, *lines, ""]), encoding="utf-8")
    command = [sys.executable, "-I", "-S", str(_LEASH), str(executable), "-c", str(config)]
    with child.running(command, folder / "broker.log", _READY):
        yield f"mqtt://127.0.0.1:{port}"


@contextmanager
def forgetful(url: str) -> Iterator[str]:
    """The same broker, but for sessions: whoever comes begins a new one, whatever it asks for."""
    port = int(url.rpartition(":")[2])

    class Between(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as broker:
                connect = bytearray(self.request.recv(4096))
                connect[connect.index(b"MQTT") + _FLAGS_BEHIND_NAME] |= _CLEAN_START
                broker.sendall(connect)
                self._pass_on(broker)

        def _pass_on(self, broker: socket.socket) -> None:
            other = {self.request: broker, broker: self.request}
            with suppress(OSError):
                while True:
                    for one in select(other, [], [])[0]:
                        if not (data := one.recv(65536)):
                            return
                        other[one].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Between) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"mqtt://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()

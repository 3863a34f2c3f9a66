"""Brokers to be examined, each with something wrong, and what `fedmqtt doctor` says of them."""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker_config import child, doctor_command, local_broker
from broker_config.mosquitto import find_mosquitto
from tests.own_broker import free_port

_LEASH = Path(local_broker.__file__).with_name("leash.py")
_READY = re.compile(r"mosquitto version \S+ running")


@dataclass(frozen=True, slots=True)
class Report:
    exit_code: int
    checks: dict[str, dict[str, Any]]

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
    return Report(code, {check["check"]: check for check in found["checks"]})


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

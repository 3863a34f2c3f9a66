"""The systemd unit by which a device's client starts with the machine, and again when it failed.

Sources: systemd.service(5), systemd.unit(5) and systemd.syntax(7) of systemd 252.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.mqtt_link import parse_broker_url

NAME = "fedmqtt-client.service"
MARK = "# Written by `fedmqtt client --install-service`."
_SYSTEM = Path("/etc/systemd/system")

_WORDS = ("broker", "federation", "id")
_PATHS = ("credentials", "data", "state")
_PRIVACY = ("at_least", "accept_model")


class NotInstalled(Exception):
    """Says why not, and what to do."""


def folder(*, is_root: bool, home: Path) -> Path:
    """Where the unit of this account belongs."""
    return _SYSTEM if is_root else home / ".config" / "systemd" / "user"


def words(arguments: argparse.Namespace, here: Path) -> list[str]:
    """The command line again, as it works from any folder. Raises NotInstalled."""
    if any(map(_has_password, (arguments.broker, *_set_values(arguments, "broker")))):
        raise NotInstalled(
            "everybody on this machine can read a unit and the words of a running program: keep"
            " the broker's password in a settings file, or in --credentials"
        )
    found = [str(here / arguments.config)] if arguments.config is not None else []
    for name in _WORDS:
        if (value := getattr(arguments, name)) is not None:
            found += [f"--{name}", value]
    for name in _PATHS:
        if (value := getattr(arguments, name)) is not None:
            found += [f"--{name}", str(here / value)]
    if (task := arguments.task) is not None:
        found += ["--task", str(here / task) if task.endswith(".py") else task]
    for name in _PRIVACY:
        if (value := getattr(arguments, name)) is not None:
            found += [f"--{name.replace('_', '-')}", value]
    for one in arguments.set:
        found += ["--set", one]
    for name in ("insecure", "verbose", "json_logs"):
        if getattr(arguments, name):
            found.append(f"--{name.replace('_', '-')}")
    progress = "rounds" if arguments.progress == "auto" else arguments.progress
    return [*found, "--progress", progress]


def unit(command: Sequence[str], here: Path, *, is_root: bool, user: str = "") -> str:
    """The unit's text; `command` begins with the program, by its absolute path. Paths in a settings
    file are seen from `here`, as they are now."""
    as_user = f"User={user}\n" if user else ""
    return f"""{MARK}
# After a change: systemctl {"" if is_root else "--user "}daemon-reload
[Unit]
Description=fedmqtt client: takes part in federated learning with this device's data
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
{as_user}WorkingDirectory={str(here).replace("%", "%%")}
ExecStart={" ".join(map(quoted, command))}
Restart=on-failure
RestartSec=30
# Settings that are wrong, and a broker that does not let it in: to try again is in vain.
RestartPreventExitStatus={EXIT_USAGE} {EXIT_DENIED}
TimeoutStopSec=30
NoNewPrivileges=yes

[Install]
WantedBy={"multi-user.target" if is_root else "default.target"}
"""


def quoted(word: str) -> str:
    """One word of a command line, so that systemd makes the same word of it: `%`, `$`, quotes and
    backslashes stand for something there."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    escaped = escaped.replace("%", "%%").replace("$", "$$")
    is_plain = escaped == word and word and not any(c.isspace() or c in "';" for c in word)
    return word if is_plain else f'"{escaped}"'


def install(arguments: argparse.Namespace, *, is_root: bool, home: Path) -> str:
    """Write the unit; what to run next. Raises NotInstalled."""
    here = Path.cwd()
    path = folder(is_root=is_root, home=home) / NAME
    command = [sys.executable, "-m", "fedmqtt", "client", *words(arguments, here)]
    # With sudo, the owner's account does the work: a task is a program like any other.
    user = os.environ.get("SUDO_USER", "") if is_root else ""
    _write(path, unit(command, here, is_root=is_root, user=user), is_forced=arguments.force)
    return next_steps(path, is_root=is_root, user=user)


def next_steps(path: Path, *, is_root: bool, user: str) -> str:
    manager = "systemctl" if is_root else "systemctl --user"
    log = "journalctl" if is_root else "journalctl --user"
    lines = [
        f"Written: {path}. What to run next:",
        f"  {manager} daemon-reload",
        f"  {manager} enable --now {NAME}",
        f"  {log} -u {NAME} -f",
    ]
    if not is_root:
        lines.append("  loginctl enable-linger    (it runs while nobody is logged in, too)")
    elif not user:
        lines.append("It will run as root. Better: a line User=... in it, of who owns the data.")
    return "\n".join(lines)


def _write(path: Path, text: str, *, is_forced: bool) -> None:
    try:
        is_ours = not path.exists() or path.read_text(encoding="utf-8").startswith(MARK)
        if not is_ours and not is_forced:
            raise NotInstalled(f"{path} was written by somebody else: --force replaces it")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as bad:
        raise NotInstalled(f"{path}: {bad.strerror}") from bad


def _set_values(arguments: argparse.Namespace, key: str) -> list[str]:
    pairs = (one.partition("=") for one in arguments.set)
    return [value for name, _, value in pairs if name.strip() == key]


def _has_password(url: str | None) -> bool:
    return bool(url) and parse_broker_url(str(url).strip(" \"'")).password is not None

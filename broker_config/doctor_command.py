"""Look at a broker and an account before a federation depends on them.

    fedmqtt doctor --credentials kit/accounts/pi-3.toml        as that device
    fedmqtt doctor --credentials kit/accounts/coordinator.toml --devices 200
    fedmqtt doctor --broker mqtt://localhost --federation demo

A line for each check; below what failed, what it means and the line to change. Nothing is left on
the broker, and no program of the federation takes notice. A broker that names sessions by accounts,
as a kit's does, cuts the device off for a moment whose credentials are tried: run it before the
client, or give the coordinators' port with --broker.

Ends with 0 where nothing has to be mended, 1 where something has, 3 where the broker does not let
us in or is not who it should be, 4 where nothing failed, but the login was not tried, and next to
nothing looked at.
"""

import argparse
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker_config.doctor import report
from broker_config.doctor.case import Case, Needs
from broker_config.doctor.examination import Result, examine
from broker_config.doctor.kinds import KINDS
from fedmqtt import credentials, flag_values
from fedmqtt.command_line import EXIT_DENIED
from fedmqtt.credentials import CredentialsError, Role
from fedmqtt.mqtt_link import (
    RECEIVE_BYTES_MAX,
    BrokerUrl,
    BrokerUrlError,
    parse_broker_url,
    plaintext_fault,
)
from fedmqtt.topics import Topics, is_name

_ROLES: tuple[Role, ...] = ("device", "coordinator", "monitor", "operator", "worker")
EXIT_NOT_LOOKED = 4
"""Nothing failed, but the login was not tried: next to nothing is known of the account."""

_DEFAULT_BROKER = "mqtt://localhost"
_CHUNK_BYTES = 128 * 1024
"""As `transfer.chunk_bytes` and `link.chunk_bytes` unless somebody says otherwise."""
_PACKET_CAP_BYTES = 256 * 1024
_HEAD_BYTES = 1024
_DEVICES = 50
_TELL_AFTER_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--credentials", type=Path, metavar="FILE", help="as `fedmqtt enroll` wrote it: who we are"
    )
    parser.add_argument(
        "--broker",
        metavar="URL",
        help=f"mqtt://[user:password@]host[:port] or mqtts://... ({_DEFAULT_BROKER}, or as the"
        " credentials say)",
    )
    parser.add_argument("--federation", help="the federation's name, without credentials")
    parser.add_argument(
        "--role",
        choices=_ROLES,
        help="what the account is for, without credentials (coordinator)",
    )
    parser.add_argument("--id", help="the device's name, with --role device (its user name)")
    parser.add_argument(
        "--witness",
        type=Path,
        metavar="FILE",
        help="a coordinator's credentials: it says what this account should hear and should not,"
        " and hears what this account may not say",
    )
    parser.add_argument(
        "--tls-ca", metavar="FILE", help="certificates to trust, without credentials"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="also unencrypted, in a network that you trust"
    )
    parser.add_argument(
        "--kind",
        choices=sorted(KINDS),
        default="",
        help="which broker it is, where it does not tell",
    )
    needs = parser.add_argument_group("what the federation needs")
    needs.add_argument(
        "--devices", type=_positive, default=_DEVICES, help="how many there will be (%(default)s)"
    )
    needs.add_argument(
        "--chunk-bytes",
        type=_positive,
        default=_CHUNK_BYTES,
        help="transfer.chunk_bytes of federation.toml (%(default)s)",
    )
    needs.add_argument(
        "--model-mb",
        type=flag_values.positive,
        help="size of the model, where no offer says it",
    )
    needs.add_argument(
        "--packet-max",
        type=_positive,
        default=_PACKET_CAP_BYTES,
        metavar="BYTES",
        help="try no larger packets (%(default)s)",
    )
    needs.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the client's --state, to see whether it is at work and how much room there is",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    progress = _Progress()
    try:
        case = _case(arguments, progress)
    except (BrokerUrlError, CredentialsError, ValueError) as bad:
        sys.stderr.write(f"fedmqtt doctor: {bad}\n")
        return 2
    results = []
    if not arguments.json:
        _say(
            f"{case.broker}, federation {case.federation}, as a {case.role}"
            + (f" ({case.id})" if case.id else "")
            + "\n"
        )
    with progress.shown():
        for result in examine(case, progress.begin):
            progress.end()
            results.append(result)
            if not arguments.json:
                _say("\n".join(report.lines(result, case.kind)))
    if arguments.json:
        _say(json.dumps(_as_json(case, results), indent=2))
    else:
        _say("\n" + report.summary(results))
    return _exit_code(results)


def _exit_code(results: list[Result]) -> int:
    failures = [one.finding for one in results if one.finding.status == "failed"]
    if any(one.denied for one in failures):
        return EXIT_DENIED
    if failures:
        return 1
    return EXIT_NOT_LOOKED if report.left_out(results) else 0


def _as_json(case: Case, results: list[Result]) -> dict[str, object]:
    return {
        "broker": str(case.broker),
        "federation": case.federation,
        "role": case.role,
        "kind": case.kind or None,
        "checks": [report.as_json(one, case.kind) for one in results],
        "left_out": report.left_out(results),
        "exit_code": _exit_code(results),
    }


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _case(arguments: argparse.Namespace, progress: "_Progress") -> Case:
    """Raises BrokerUrlError, CredentialsError or ValueError."""
    broker, federation, role, name = _account(arguments)
    if broker.others:
        first = BrokerUrl(broker.host, broker.port, broker.tls)
        raise ValueError(
            f"{broker} are {len(broker.nodes)} nodes, and one is looked at at a time: give"
            f" --broker {first}, and then the others in its place"
        )
    if not arguments.insecure and (fault := plaintext_fault(broker)):
        raise ValueError(fault)
    model_mb: float | None = arguments.model_mb
    return Case(
        broker=broker,
        topics=Topics(federation),
        federation=federation,
        role=role,
        id=name,
        needs=Needs(
            chunk_bytes=arguments.chunk_bytes,
            devices=arguments.devices,
            model_bytes=None if model_mb is None else int(model_mb * 1e6),
            packet_cap_bytes=min(arguments.packet_max, RECEIVE_BYTES_MAX - _HEAD_BYTES),
        ),
        tls=(broker.context or _trusting(arguments.tls_ca)) if broker.tls else None,
        state=arguments.state or _state_of(federation, name),
        may_be_the_device=(
            role == "device" and arguments.credentials is not None and arguments.broker is None
        ),
        tell=progress.note,
        kind=arguments.kind,
        witness=_witness(arguments.witness, federation),
        witness_file=str(arguments.witness or ""),
    )


def _account(arguments: argparse.Namespace) -> tuple[BrokerUrl, str, Role, str]:
    """Where, and who we are there."""
    if arguments.credentials is not None:
        for name in ("federation", "role", "id", "tls_ca"):
            if getattr(arguments, name) is not None:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: {arguments.credentials} says that already")
        account, broker = credentials.broker_of(
            arguments.credentials, _ROLES, arguments.broker or ""
        )
        return broker, account.federation, account.role, account.id
    if arguments.federation is None:
        raise ValueError("give --federation NAME, as its coordinator calls it, or --credentials")
    broker = parse_broker_url(arguments.broker or _DEFAULT_BROKER)
    role: Role = arguments.role or "coordinator"
    name = arguments.id or broker.username or ""
    if role == "device" and not is_name(name):
        raise ValueError("--role device needs its name: --id pi-3")
    return broker, arguments.federation, role, name


def _state_of(federation: str, name: str) -> Path:
    """As a client's, where nobody says otherwise."""
    return Path.home() / ".local" / "state" / "fedmqtt" / federation / name


def _witness(path: Path | None, federation: str) -> BrokerUrl | None:
    if path is None:
        return None
    account, broker = credentials.broker_of(path, ("coordinator",))
    if account.federation != federation:
        raise ValueError(f"--witness {path} is for {account.federation!r}, not {federation!r}")
    return broker


def _trusting(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as bad:
        raise ValueError(f"--tls-ca {ca!r} is no file of certificates: {bad.strerror}") from bad


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")


@dataclass
class _Progress:
    """Says on stderr what takes longer than two seconds, and how far it is."""

    _check: str = ""
    _note: str = ""
    _next: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)

    def begin(self, check: str) -> None:
        self._check, self._note = check.replace("_", " "), ""
        self._next.set()

    def note(self, text: str) -> None:
        self._note = text

    def end(self) -> None:
        self._check = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._next.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            # Woken as a check begins: two seconds count from there.
            if self._next.wait(_TELL_AFTER_S):
                self._next.clear()
            elif self._check:
                more = f": {self._note}" if self._note else ""
                sys.stderr.write(f"... {self._check}{more}\n")
                sys.stderr.flush()

"""Mosquitto's files of a secure federation: configuration, accounts, and who may do what.

`mosquitto.conf` beside this file is the one for trying out, with a reason for each line. What it
says of persistence, queues and limits holds here too, so it is taken from there; only who may
connect is said anew.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker_config import access
from broker_config.mosquitto import DEPLOYED_CONFIG

SAID_ANEW = frozenset(
    {
        "listener",
        "allow_anonymous",
        "persistence",
        "persistence_location",
        "max_queued_messages",
    }
)
"""Settings of the file for trying out that are said anew here, with the comment above each."""

_ITERATIONS = 5000
"""Of PBKDF2, at each login. Passwords are 32 random bytes: nothing is to be guessed, and a fleet
that comes back at once must not keep the broker busy. Mosquitto itself takes 101."""
_SALT_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where, and how clients prove who they are."""

    federation: str
    port: int
    servers_port: int
    websockets_port: int
    """0: none. Debian's Mosquitto is built without."""
    with_certificates: bool
    devices: int
    """For how many there is room."""
    place: str
    """The folder in which the broker will find its files."""
    data: str
    """The folder in which it keeps what must survive."""
    user: str = ""
    """As whom a broker runs that root starts; as `mosquitto` if none is named."""


def config(listening: Listening) -> str:
    """`mosquitto.conf`."""
    blocks = DEPLOYED_CONFIG.read_text(encoding="utf-8").split("\n\n")
    kept = [block.strip("\n") for block in blocks[1:] if not _is_said_anew(block)]
    return "\n\n".join([_head(listening), *kept]).rstrip() + "\n"


def password_line(account: str, password: str) -> str:
    """One account of Mosquitto's password file, as `mosquitto_passwd` of 2.0 writes it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"{account}:$7${_ITERATIONS}${_text(salt)}${_text(digest)}\n"


def acl(
    federation: str,
    coordinators: Iterable[str],
    monitors: Iterable[str],
    operators: Iterable[tuple[str, str]],
    workers: Iterable[tuple[str, str]],
    revoked: Iterable[str],
    *,
    home_assistant: bool = False,
) -> str:
    """Who may write and read what, by account; `operators` and `workers` are with their names."""
    lines = [
        f"# Who may do what in federation {federation}. Made by `fedmqtt broker-kit` from the",
        "# table of topics in the code; do not edit, it is written anew with each device.",
        "",
        "# Every device: its own topics, by its account's name (%u), and what is for all devices.",
        *_lines("pattern", access.of_devices(federation, "%u")),
    ]
    # Patterns hold for every account.
    denied = [f"topic deny {rule.topic_filter}" for rule in access.for_devices_alone(federation)]
    coordinating = access.of_coordinators(federation, home_assistant=home_assistant)
    watching = access.of_monitors(federation, home_assistant=home_assistant)
    roles: Mapping[str, tuple[Iterable[str], list[str]]] = {
        "The coordinators.": (coordinators, _lines("topic", coordinating)),
        "Who may watch.": (monitors, [*_lines("topic", watching), *denied]),
    }
    for title, (accounts, rules) in roles.items():
        for account in accounts:
            lines += ["", f"# {title}", f"user {account}", *rules]
    for account, name in operators:
        ordering = _lines("topic", access.of_operators(federation, name))
        lines += ["", "# Who may give orders, and watch.", f"user {account}", *ordering, *denied]
    for account, name in workers:
        working = _lines("topic", access.of_workers(federation, name))
        lines += ["", "# Who adds answers up.", f"user {account}", *working, *denied]
    for account in revoked:
        lines += [
            "",
            "# Revoked: whatever it still holds of an open connection.",
            f"user {account}",
        ]
        lines += ["topic deny #"]
    return "\n".join(lines) + "\n"


def _lines(word: str, rules: Iterable[access.Rule]) -> list[str]:
    return [f"{word} {rule.access} {rule.topic_filter}" for rule in rules]


def _is_said_anew(block: str) -> bool:
    names = {line.split()[0] for line in block.splitlines() if line and not line.startswith("#")}
    # A block goes or stays whole: one with both would lose what is not said here.
    assert names <= SAID_ANEW or not names & SAID_ANEW, block
    return bool(names & SAID_ANEW)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _head(listening: Listening) -> str:
    place, federation = listening.place, listening.federation
    proof = (
        [
            "# Who presents a certificate of this CA is the account that it names.",
            "require_certificate true",
            "use_identity_as_username true",
            f"crlfile {place}/revoked.pem",
        ]
        if listening.with_certificates
        else [f"password_file {place}/passwords"]
    )
    lines = [
        f"# Mosquitto 2.0 or newer for federation {federation}, made by `fedmqtt broker-kit`.",
        "# Everyone proves who they are, and everything is encrypted.",
        "",
        "per_listener_settings true",
        "",
        "# --- Devices --------------------------------------------------------------------",
        "",
        f"listener {listening.port}",
        *_tls(place),
        "allow_anonymous false",
        *proof,
        f"acl_file {place}/acl",
        "# The session is named by the account: nobody can throw out another by its client id.",
        "use_username_as_clientid true",
        "# Room for a device's old connection beside its new one.",
        f"max_connections {2 * listening.devices + 20}",
        "",
        "# --- Coordinators and monitors: several connections of one account ----------------",
        "",
        f"listener {listening.servers_port}",
        *_tls(place),
        "allow_anonymous false",
        *proof,
        f"acl_file {place}/acl",
        "max_connections 200",
    ]
    if listening.websockets_port:
        lines += [
            "",
            "# --- Web pages, over WebSockets -------------------------------------------------",
            "",
            f"listener {listening.websockets_port}",
            "protocol websockets",
            *_tls(place),
            "allow_anonymous false",
            f"password_file {place}/passwords",
            f"acl_file {place}/acl",
            "max_connections 200",
        ]
    lines += [
        "",
        "# --- All of them ----------------------------------------------------------------",
        "",
        "# What waits for the coordinator while it is away: an answer in chunks, of every device.",
        f"max_queued_messages {max(1000, 20 * listening.devices)}",
        "",
        "# Retained messages, sessions and their queues outlive the broker in this folder.",
        "persistence true",
        f"persistence_location {listening.data}/",
    ]
    if listening.user:
        lines += [
            "",
            "# Started by root, it becomes this user: the files beside this one are for no other.",
            f"user {listening.user}",
        ]
    return "\n".join(lines)


def _tls(place: str) -> list[str]:
    return [
        f"cafile {place}/ca.pem",
        f"certfile {place}/broker.pem",
        f"keyfile {place}/broker.key",
        "tls_version tlsv1.2",
    ]

"""EMQX's files of a secure federation: what it is told of accounts, and who may do what.

EMQX 5 reads `acl.conf` (Erlang terms) and, for its built-in database of accounts, a bootstrap file
in CSV. Sources: EMQX documentation, "ACL File" and "Use Built-in Database", version 5.
"""

import hashlib
import secrets
from collections.abc import Iterable

from broker_config import access

_ACTIONS = {"read": "subscribe", "write": "publish"}
_SALT_BYTES = 16


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
    """`acl.conf`: the first rule that matches decides, and the last one forbids all else.
    `operators` and `workers` are accounts with their names."""
    lines = [f"%% Who may do what in federation {federation}. Made by `fedmqtt broker-kit`."]
    lines += [f'{{deny, {{username, "{account}"}}, all, ["#"]}}.' for account in revoked]
    coordinating = access.of_coordinators(federation, home_assistant=home_assistant)
    watching = access.of_monitors(federation, home_assistant=home_assistant)
    for account in coordinators:
        lines += _lines(f'{{username, "{account}"}}', coordinating)
    rules_of = [(account, watching) for account in monitors]
    rules_of += [(account, access.of_operators(federation, name)) for account, name in operators]
    rules_of += [(account, access.of_workers(federation, name)) for account, name in workers]
    for account, rules in rules_of:
        lines += _lines(f'{{username, "{account}"}}', rules)
        # What follows is for whoever has logged in.
        lines.append(f'{{deny, {{username, "{account}"}}, all, ["#"]}}.')
    lines += _lines("all", access.of_devices(federation, "${username}"))
    return "\n".join([*lines, "{deny, all}."]) + "\n"


def _lines(who: str, rules: Iterable[access.Rule]) -> list[str]:
    return [
        f'{{allow, {who}, {_ACTIONS[rule.access]}, ["{rule.topic_filter}"]}}.' for rule in rules
    ]


def users_header() -> str:
    return "user_id,password_hash,salt,is_superuser\n"


def user_line(account: str, password: str) -> str:
    """SHA-256 of password and salt, as the authenticator is told: `suffix`."""
    salt = secrets.token_hex(_SALT_BYTES)
    digest = hashlib.sha256((password + salt).encode()).hexdigest()
    return f"{account},{digest},{salt},false\n"


def config(place: str) -> str:
    """What belongs into `emqx.conf`."""
    return f"""\
# For EMQX 5: add this to etc/emqx.conf. Made by `fedmqtt broker-kit`.

listeners.ssl.default {{
  bind = "0.0.0.0:8883"
  # The session is named by the account: nobody can throw out another by its client id.
  enable_authn = true
  ssl_options {{
    cacertfile = "{place}/ca.pem"
    certfile = "{place}/broker.pem"
    keyfile = "{place}/broker.key"
    versions = ["tlsv1.3", "tlsv1.2"]
  }}
}}
# Nothing unencrypted.
listeners.tcp.default.enable = false
listeners.ws.default.enable = false

mqtt {{
  max_packet_size = 2MB
  max_mqueue_len = 10000
  session_expiry_interval = 14d
  retain_available = true
}}

authentication = [
  {{
    mechanism = password_based
    backend = built_in_database
    user_id_type = username
    password_hash_algorithm {{ name = sha256, salt_position = suffix }}
    bootstrap_file = "{place}/emqx-users.csv"
    bootstrap_type = hash
  }}
]

authorization {{
  no_match = deny
  deny_action = ignore
  sources = [{{ type = file, enable = true, path = "{place}/emqx-acl.conf" }}]
}}
"""

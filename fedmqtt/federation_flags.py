"""Which federation, and its broker, as words on a command line of who looks at it from outside."""

import argparse
from pathlib import Path

from fedmqtt import credentials
from fedmqtt.mqtt_link import BrokerUrl, parse_broker_url, plaintext_fault

_DEFAULT_BROKER = "mqtt://localhost:1883"


def add_arguments(parser: argparse.ArgumentParser, whose: str) -> None:
    """`whose`: the accounts that will do, for people."""
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="mqtt://[user:password@]host[:port]; of a cluster, all its nodes: mqtt://a,b,c"
        f" ({_DEFAULT_BROKER})",
    )
    parser.add_argument("--federation", metavar="NAME", help="as its coordinator calls it")
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help=f"as `fedmqtt broker-kit` wrote it for {whose}: federation, broker and account",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="also unencrypted, in a network that you trust"
    )


def find(
    arguments: argparse.Namespace,
    roles: tuple[credentials.Role, ...],
    *,
    needs_name: bool = True,
) -> tuple[str, BrokerUrl]:
    """The federation's name, and its broker with the account. Raises ValueError, among them
    CredentialsError and BrokerUrlError.

    Without `needs_name` the name is empty where none is given.
    """
    if arguments.credentials is not None:
        account, broker = credentials.broker_of(
            arguments.credentials, roles, arguments.broker or ""
        )
        if arguments.federation not in (None, account.federation):
            raise ValueError(
                f"--federation {arguments.federation}: {arguments.credentials} is for"
                f" {account.federation!r}"
            )
        return account.federation, broker
    if arguments.federation is None and needs_name:
        raise ValueError("give --federation NAME, as its coordinator calls it, or --credentials")
    broker = parse_broker_url(arguments.broker or _DEFAULT_BROKER)
    if not arguments.insecure and (fault := plaintext_fault(broker)):
        raise ValueError(fault)
    return arguments.federation or "", broker

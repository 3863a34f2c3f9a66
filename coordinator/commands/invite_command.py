"""Have a client invited to the next round, whoever else is selected.

    fedmqtt invite pi-3 --credentials kit/accounts/operator.toml

Once: later rounds select as ever. A client that is away, in quarantine, or may not train now is not
invited, and the answer says why. It needs an operator's account.
"""

import argparse
import sys

from coordinator.commands import giving_orders
from fedmqtt.command_line import EXIT_USAGE
from fedmqtt.topics import NAME_RULE, ClientId, is_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("client", metavar="CLIENT", help="its name, like pi-3")
    giving_orders.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """As `giving_orders.run`."""
    if not is_name(arguments.client):
        sys.stderr.write(f"fedmqtt invite: {arguments.client!r} names no client: {NAME_RULE}\n")
        return EXIT_USAGE
    return giving_orders.run(arguments, "invite", client=ClientId(arguments.client))

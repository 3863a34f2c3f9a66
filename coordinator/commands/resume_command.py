"""Open rounds again after `fedmqtt pause`.

    fedmqtt resume --credentials kit/accounts/operator.toml

It needs an operator's account.
"""

import argparse

from coordinator.commands import giving_orders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    giving_orders.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """As `giving_orders.run`."""
    return giving_orders.run(arguments, "resume")

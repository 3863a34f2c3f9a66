"""Open no more rounds until `fedmqtt resume`. The one that is open closes as usual.

    fedmqtt pause --credentials kit/accounts/operator.toml

The coordinator stays paused when it is started again. It needs an operator's account.
"""

import argparse

from coordinator.commands import giving_orders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    giving_orders.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """As `giving_orders.run`."""
    return giving_orders.run(arguments, "pause")

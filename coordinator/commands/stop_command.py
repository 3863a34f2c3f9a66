"""End the run: the open round closes as usual, its model is measured, and the coordinator ends.

    fedmqtt stop --credentials kit/accounts/operator.toml

The run is finished then, as after its last round: starting the coordinator again begins another. To
wait instead, and go on later, use `fedmqtt pause`. It needs an operator's account.
"""

import argparse

from coordinator.commands import giving_orders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    giving_orders.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """As `giving_orders.run`."""
    return giving_orders.run(arguments, "stop")

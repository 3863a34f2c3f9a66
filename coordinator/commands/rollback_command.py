"""Go back to the model that an earlier round made: the next round trains from it.

    fedmqtt rollback 12 --credentials kit/accounts/operator.toml

An open round is given up, and answers to the rounds since then count no more. 0 is the model that
the run began with. Models are kept as `checkpoint.keep` in federation.toml says; a round whose
model is gone is refused, with those that there are. What has been told of devices stays told:
nothing of a privacy budget comes back. It needs an operator's account.
"""

import argparse

from coordinator.commands import giving_orders
from fedmqtt import flag_values
from fedmqtt.topics import RoundId


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "round",
        type=flag_values.round_number,
        metavar="ROUND",
        help="whose model; 0: the initial one",
    )
    giving_orders.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """As `giving_orders.run`."""
    return giving_orders.run(arguments, "rollback", number=RoundId(arguments.round))

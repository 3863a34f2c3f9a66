"""List the aggregation strategies: what each does, and its settings with their defaults.

In federation.toml: aggregation = "fedadam", and in [aggregation_settings] what differs from the
defaults. docs/strategies.md tells which to choose when.
"""

import argparse
import sys

from coordinator import aggregation
from fedmqtt.parts_listing import listing

TITLE = (
    "How a round's answers become the next model: `aggregation` and [aggregation_settings] in"
    " federation.toml."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(listing(aggregation, TITLE))
    return 0

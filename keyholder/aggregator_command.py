"""Open sums of a federation's answers, as the one that its devices trust with that.

    fedmqtt enroll demo-kit agg --keyholder
    fedmqtt aggregator --credentials agg.toml --state agg

It sees no answer: devices mask theirs, and seal the masks to this program. When a round closes, the
coordinator names the clients that counted and is sent the sum of their masks, which opens the sum
of their answers and nothing else. A list of too few, of whom the federation does not know, or a
second one for the same key is refused.

Whoever has this program's folder and the coordinator's together could read each answer. Where that
may be the same person, several keyholders are the better choice: see `fedmqtt keyholder --help`.
"""

import argparse

from keyholder import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_options(parser, ("trusted",))


def run(arguments: argparse.Namespace) -> int:
    """As `fedmqtt keyholder`."""
    return command.serve("aggregator", arguments)

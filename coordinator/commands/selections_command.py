"""List the selection policies: who is invited to train in a round, and what each can be told.

They are chosen with `selection = "NAME"` in federation.toml, and told with [selection_settings].
"""

import argparse
import sys

from coordinator import selection
from fedmqtt.parts_listing import listing

_TITLE = 'selection = "NAME" in federation.toml, its settings under [selection_settings]:'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There is nothing to say."""


def run(arguments: argparse.Namespace) -> int:
    sys.stdout.write(listing(selection, _TITLE))
    return 0

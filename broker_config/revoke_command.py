"""End a device's account. Its credentials are good for nothing once the broker has looked again.

fedmqtt revoke demo-kit pi-3
"""

import argparse
import sys
from pathlib import Path

from broker_config.kit import Kit, KitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the kit's folder")
    parser.add_argument("id", help="the device's name, like pi-3")


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where it is not enrolled."""
    try:
        kit = Kit(arguments.folder)
        kit.revoke(arguments.id)
    except KitError as bad:
        sys.stderr.write(f"fedmqtt revoke: {bad}\n")
        return 2
    sys.stdout.write(
        f"{arguments.id} is revoked: once the broker has looked again (Mosquitto: kill -HUP <its"
        " id>)\nit cannot connect, and a connection that it still has is good for nothing.\n"
    )
    return 0

"""End a device's account. Its credentials are good for nothing once the broker has looked again.

    fedmqtt revoke demo-kit pi-3

What it signs is refused from now on by a coordinator that was given demo-kit/revoked-devices with
--revoked, also where a broker lets it in.
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
        ended = kit.revoke(arguments.id)
    except KitError as bad:
        sys.stderr.write(f"fedmqtt revoke: {bad}\n")
        return 2
    sys.stdout.write(
        f"{arguments.id} is revoked: once the broker has looked again (Mosquitto: kill -HUP <its"
        " id>)\nit cannot connect, and a connection that it still has is good for nothing.\n"
    )
    if ended.public_key:
        sys.stdout.write(
            "What it signs is refused by a coordinator with"
            f" --revoked {arguments.folder / 'revoked-devices'}\n"
        )
    if ended.role == "coordinator" and kit.plan.federation_key:
        sys.stdout.write(
            "Its file held the federation's key, and devices believe that still: if somebody else\n"
            "may have it, make another kit.\n"
        )
    return 0

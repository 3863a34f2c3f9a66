"""End a device's account. Its credentials are good for nothing once the broker has looked again.

    fedmqtt revoke demo-kit pi-3

What it signs is refused from now on by a coordinator that was given demo-kit/revoked-devices with
--revoked, also where a broker lets it in.
"""

import argparse
import sys
from pathlib import Path

from broker_config.enroll_command import MOSQUITTO, names
from broker_config.kit import Kit, KitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the kit's folder")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but the folder."""
    parser.add_argument("id", help="the device's name, like pi-3")


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where it is not enrolled."""
    refused = (
        "What it signs is refused by a coordinator with"
        f" --revoked {arguments.folder / 'revoked-devices'};\n"
        "one without goes on inviting it, as the broker keeps what it said last: that it is there."
    )
    return revoke(arguments, MOSQUITTO, refused)


def revoke(arguments: argparse.Namespace, look_again: str, refused: str) -> int:
    """`run`; for people: what tells the broker of it, and who refuses what the device signs."""
    try:
        kit = Kit(arguments.folder)
        ended = kit.revoke(arguments.id)
    except KitError as bad:
        sys.stderr.write(f"fedmqtt revoke: {bad}\n")
        return 2
    sys.stdout.write(
        f"{arguments.id} is revoked: once the broker has looked again ({look_again})\n"
        "it cannot connect, and a connection that it still has is good for nothing.\n"
    )
    if ended.public_key:
        sys.stdout.write(f"{refused}\n")
    if ended.keyholder:
        sys.stdout.write("Files that are written from now on do not name it as a keyholder.\n")
        if after := kit.enrolled_after(ended):
            sys.stderr.write(
                f"fedmqtt revoke: the files of {names(after)} name it still: take it out of"
                " `keyholders` there\n"
            )
    if ended.role == "coordinator" and kit.plan.federation_key:
        sys.stdout.write(
            "Its file held the federation's key, and devices believe that still: if somebody else\n"
            "may have it, make another kit.\n"
        )
    return 0

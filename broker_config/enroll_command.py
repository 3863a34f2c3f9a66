"""Add a device to a kit: one file that is all it needs.

    fedmqtt enroll demo-kit pi-3                         writes demo-kit/accounts/pi-3.toml
    scp demo-kit/accounts/pi-3.toml pi-3:                keep it secret on the way, too
    fedmqtt client --credentials pi-3.toml --task ...    on the device

A broker that is running hears of it when it is told to look again: Mosquitto by SIGHUP.
"""

import argparse
import sys
from pathlib import Path

from broker_config.kit import Kit, KitError
from fedmqtt import credentials


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the kit's folder")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but the folder."""
    parser.add_argument("id", help="the device's name, like pi-3")
    parser.add_argument(
        "--role",
        choices=("device", "coordinator", "monitor"),
        help="what the account is for (a device; of one that was revoked, as before)",
    )
    parser.add_argument(
        "--qr",
        action="store_true",
        help="print the file as a QR code too, for a device with a camera: let nobody else see it",
    )


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where it cannot be enrolled."""
    return enroll(arguments, "Mosquitto: kill -HUP <its id>")


def enroll(arguments: argparse.Namespace, look_again: str) -> int:
    """`run`; `look_again` is what tells the broker of it, for people."""
    try:
        kit = Kit(arguments.folder)
        path = kit.enroll(arguments.id, arguments.role)
        sys.stdout.write(f"{path} is all that {arguments.id} needs. {look_again}\n")
        if arguments.qr:
            _show(path)
    except KitError as bad:
        sys.stderr.write(f"fedmqtt enroll: {bad}\n")
        return 2
    return 0


def _show(path: Path) -> None:
    try:
        import segno
    except ModuleNotFoundError as lacking:
        raise KitError(f"--qr needs {lacking.name}: pip install 'fedmqtt[security]'") from lacking
    # With the least redundancy: a certificate and its key just fit.
    segno.make(credentials.render(credentials.read(path)), error="l").terminal(compact=True)

"""Make all that a secure federation's broker needs: a CA, its certificate, accounts, and the rules
of who may do what. The folder is where accounts are made from then on:

    fedmqtt broker-kit demo-kit --federation demo --host broker.example --host 192.168.1.10
    mosquitto -c demo-kit/broker/mosquitto.conf
    fedmqtt coordinator federation.toml --credentials demo-kit/accounts/coordinator.toml \\
        --revoked demo-kit/revoked-devices
    fedmqtt pause --credentials demo-kit/accounts/operator.toml
    fedmqtt enroll demo-kit pi-3        writes demo-kit/accounts/pi-3.toml: copy it to the device
    fedmqtt client --credentials pi-3.toml --task my_task.py --data .

Nothing is ever written over. ca/ca.key makes accounts: it stays in this folder. Coordinators sign
by ca/federation.key, which is in their credentials too, and devices by keys of their own.
"""

import argparse
import ipaddress
import re
import sys
from pathlib import Path

from broker_config import kit
from broker_config.kit import KitError, Plan
from fedmqtt.topics import NAME_RULE, is_name

PORT, SERVERS_PORT = 8883, 8884
_DAYS = 825
_DAYS_MAX = 36_500
_DEVICES_MAX = 10_000_000
_PATH = re.compile(r'[^\s"\x00-\x1f\x7f]+')
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the kit's folder, new or empty")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but the folder."""
    parser.add_argument("--federation", required=True, help="the federation's name")
    parser.add_argument(
        "--host",
        action="append",
        required=True,
        metavar="NAME",
        help="host name or address by which the broker is reached; may be repeated, the first is"
        " what devices are told",
    )
    parser.add_argument(
        "--login",
        choices=("password", "certificate"),
        default="password",
        help="how devices prove who they are: %(default)s, or a certificate of their own (mTLS)",
    )
    parser.add_argument(
        "--port", type=_port, default=PORT, help="where devices connect (%(default)s)"
    )
    parser.add_argument(
        "--servers-port",
        type=_port,
        default=SERVERS_PORT,
        help="where coordinators and monitors connect (%(default)s)",
    )
    parser.add_argument(
        "--websockets-port",
        type=_port,
        default=0,
        help="where web pages connect; none by default, since Debian's Mosquitto is built without"
        " WebSockets",
    )
    parser.add_argument(
        "--home-assistant",
        action="store_true",
        help="this broker is Home Assistant's, too: monitors, of which it is one, may read"
        " homeassistant/#, and coordinators write there of this federation",
    )
    parser.add_argument(
        "--devices", type=int, default=200, help="for how many devices there is room (%(default)s)"
    )
    parser.add_argument(
        "--place",
        help="the folder in which the broker will find what is in DIR/broker: /mosquitto/config in"
        " the Docker image (DIR/broker)",
    )
    parser.add_argument(
        "--data", help="the folder in which the broker keeps what must survive (DIR/data)"
    )
    parser.add_argument(
        "--days", type=int, default=_DAYS, help="how long certificates are good (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where the kit cannot be made."""
    folder: Path = arguments.folder
    try:
        kit.create(folder, plan(arguments))
    except KitError as bad:
        sys.stderr.write(f"fedmqtt broker-kit: {bad}\n")
        return 2
    sys.stdout.write(
        f"{folder} is a kit for federation {arguments.federation} now.\n"
        f"  broker       mosquitto -c {folder}/broker/mosquitto.conf"
        f"   (EMQX: {folder}/broker/emqx*)\n"
        "  coordinator  fedmqtt coordinator federation.toml"
        f" --credentials {folder}/accounts/coordinator.toml --revoked {folder}/revoked-devices\n"
        f"  orders       fedmqtt pause --credentials {folder}/accounts/operator.toml"
        "   (and resume, stop, invite, rollback)\n"
        f"  a device     fedmqtt enroll {folder} pi-3\n"
        f"Keep {folder}/ca here: whoever has ca.key can make accounts, and whoever has\n"
        "federation.key, or a coordinator's credentials, can sign rounds.\n"
    )
    return 0


def plan(arguments: argparse.Namespace) -> Plan:
    """What the words ask for. Raises KitError."""
    folder: Path = arguments.folder.absolute()
    if not is_name(arguments.federation):
        raise KitError(f"--federation {arguments.federation!r}: expected {NAME_RULE}")
    for host in arguments.host:
        if not _is_host(host):
            raise KitError(f"--host {host!r}: expected a host name or an address, as broker.local")
    for option, value, most in (
        ("--devices", arguments.devices, _DEVICES_MAX),
        ("--days", arguments.days, _DAYS_MAX),
    ):
        if not 1 <= value <= most:
            raise KitError(f"{option} {value}: expected 1 to {most:,}")
    ports = [arguments.port, arguments.servers_port, arguments.websockets_port]
    used = [port for port in ports if port]
    if len(set(used)) < len(used):
        raise KitError(
            f"--port, --servers-port and --websockets-port: {', '.join(map(str, used))};"
            " each needs a port of its own"
        )
    if arguments.place and not arguments.data:
        raise KitError(
            f"--place {arguments.place}: the broker reads its files elsewhere, perhaps as another"
            " user; say with --data where it may write there, as /var/lib/mosquitto, or"
            " /mosquitto/data in the Docker image"
        )
    place = arguments.place or str(folder / "broker")
    data = arguments.data or str(folder / "data")
    for option, path in (("--place", place), ("--data", data)):
        if not _PATH.fullmatch(path):
            raise KitError(
                f"{option} {path!r}: brokers' configurations take no blanks, quotes and control"
                " characters there"
            )
    return Plan(
        federation=arguments.federation,
        hosts=tuple(arguments.host),
        login=arguments.login,
        port=arguments.port,
        servers_port=arguments.servers_port,
        websockets_port=arguments.websockets_port,
        devices=arguments.devices,
        place=place.rstrip("/"),
        data=data.rstrip("/"),
        days=arguments.days,
        home_assistant=arguments.home_assistant,
    )


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: expected 1 to 65535")

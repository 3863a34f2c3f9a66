"""A server between devices and the centre: a hospital's, a farm's, a home's.

Its devices see an ordinary coordinator, on a broker of the site's own. The centre sees an ordinary
client, that answers with the exact sum of what its devices have changed. While the centre is out of
reach the site goes on with rounds of its own.

site.toml has three parts: what the site does with both, [centre] as for `fedmqtt client`, and
[devices] as a federation.toml without what the centre says of training. docs/sites.md has one.
"""

import argparse
import sys
from pathlib import Path

from coordinator.persistence.run_errors import LedgerError, RunInUse
from coordinator.seat_keeper import SeatTaken
from coordinator.service import Denied, KeysWanted
from edge_client.agent import state_dir_fault
from fedmqtt import credentials
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.credentials import Credentials, CredentialsError
from fedmqtt.event_loop import EventLoop
from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.mqtt_link import BrokerUrl, BrokerUrlError, parse_broker_url, plaintext_fault
from fedmqtt.settings import SettingsError
from site_aggregator import bridge
from site_aggregator import config as site_config
from site_aggregator.bridge import BridgeError
from site_aggregator.config import SiteConfig
from site_aggregator.program import Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the site's settings, a TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, like rounds_alone=0 or centre.broker=mqtt://...; may be repeated",
    )
    parser.add_argument(
        "--print-bridge",
        metavar="HOST:PORT",
        help="print what joins the site's Mosquitto with the centre's broker there, for its"
        " mosquitto.conf, and end",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="also unencrypted, in networks that you trust"
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        config, centre, account = _config(arguments)
    except (SettingsError, BrokerUrlError, CredentialsError) as bad:
        return _refuse(str(bad))
    if arguments.print_bridge is not None:
        try:
            sys.stdout.write(bridge.block(config.centre, arguments.print_bridge))
        except BridgeError as bad:
            return _refuse(f"--print-bridge {bad}")
        return 0
    if fault := state_dir_fault(config.state):
        return _refuse(f"{fault}; choose another with --set centre.state=DIR")
    try:
        lock = FolderLock(config.state)
    except FolderInUse as other:
        return _refuse(f"state folder {other}; a site runs once")
    except OSError as bad:
        return _refuse(f"state folder {config.state} cannot be locked: {bad.strerror}")
    loop = EventLoop()
    loop.stop_on_signals()
    denied: list[str] = []

    def end(reason: str) -> None:
        denied.append(reason)
        program.end()

    try:
        program = Program(loop, config, centre, account, end)
        if not arguments.insecure and (fault := plaintext_fault(program.devices_broker)):
            return _refuse(f"[devices]: {fault}")
        program.run()
    except (SettingsError, BrokerUrlError, SeatTaken, KeysWanted, RunInUse) as bad:
        return _refuse(str(bad))
    except Denied as bad:
        return _refuse(f"the site's own broker: {bad}", EXIT_DENIED)
    except (OSError, LedgerError) as bad:
        return _refuse(f"{bad}; start it again when that is mended, and it goes on", 1)
    finally:
        loop.close()
        lock.release()
    if denied:
        return _refuse(f"the centre's broker: {denied[0]}", EXIT_DENIED)
    # Being stopped is how a site's life ends.
    return 0


def _config(arguments: argparse.Namespace) -> tuple[SiteConfig, BrokerUrl, Credentials | None]:
    path = arguments.config
    named = site_config.credentials_of(path, arguments.set)
    if not named:
        config = site_config.read(path, arguments.set, {})
        broker = parse_broker_url(config.centre.broker)
        account = None
    else:
        account, broker = credentials.broker_of(Path(named), ("device",), "")
        ours = {"federation": account.federation, "id": account.id, "broker": account.broker}
        config = site_config.read(path, arguments.set, ours)
    if not arguments.insecure and (fault := plaintext_fault(broker)):
        raise SettingsError(f"[centre]: {fault}")
    return config, broker, account


def _refuse(why: str, code: int = EXIT_USAGE) -> int:
    sys.stderr.write(f"fedmqtt site: {why}\n")
    return code

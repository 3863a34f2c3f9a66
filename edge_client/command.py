"""Take part in a federation with this device's own data.

The client waits for rounds, trains when it is invited and its owner's conditions hold, and sends
what training changed. The data itself never leaves the device.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from msgspec import structs

from edge_client.agent import Agent, state_dir_fault
from edge_client.config import ClientConfig
from edge_client.progress_line import Owner
from edge_client.trainer_pool import TrainerPool
from fedmqtt import credentials, settings
from fedmqtt.command_line import EXIT_DENIED
from fedmqtt.credentials import Credentials, CredentialsError
from fedmqtt.event_loop import EventLoop
from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.mqtt_link import (
    BrokerUrl,
    BrokerUrlError,
    parse_broker_url,
    plaintext_fault,
    without_password,
)
from fedmqtt.settings import SettingsError

_FLAGS = ("broker", "federation", "id", "task", "data", "state")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", nargs="?", type=Path, help="a TOML file with these and further settings"
    )
    parser.add_argument(
        "--credentials", type=Path, metavar="FILE", help="as `fedmqtt enroll` wrote it: who we are"
    )
    parser.add_argument(
        "--broker",
        help="mqtt://[user:password@]host[:port]; of a cluster, all its nodes: mqtt://a,b,c",
    )
    parser.add_argument("--federation", help="the federation's name")
    parser.add_argument("--id", help="this device's name, like pi-3")
    parser.add_argument("--task", help="what it learns: a module, or the path of a .py file")
    parser.add_argument("--data", metavar="DIR", help="folder of this device's own data")
    parser.add_argument("--state", metavar="DIR", help="folder for answers not yet received")
    parser.add_argument(
        "--at-least",
        choices=("plain", "trusted", "committee", "keyholders"),
        help="how answers must be hidden: not, from all but one aggregator, from any one party by"
        " an experiment, or as well reviewed; unless given, as well as any was before",
    )
    parser.add_argument(
        "--accept-model",
        metavar="FINGERPRINT",
        help="train models that are built otherwise than the first, as the refusal named them",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting, like conditions.charging=true; may be repeated",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="also unencrypted, in a network that you trust"
    )
    parser.add_argument(
        "--progress",
        choices=("auto", "line", "changes", "rounds"),
        default="auto",
        help="what it does now, as one line that is drawn anew, as a line for each change, or as"
        " one quiet line for each round; auto: the first on a terminal, else the log alone",
    )
    parser.add_argument(
        "--install-service",
        action="store_true",
        help="write a systemd unit that starts this client with these words, and end",
    )
    parser.add_argument(
        "--force", action="store_true", help="--install-service replaces another's unit"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings in force, without the broker's password, and end",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.force and not arguments.install_service:
        return _refuse("--force is said together with --install-service")
    try:
        config, broker, account = _config(arguments)
        if config.link.tls_ca and not broker.tls:
            raise SettingsError(
                f"link.tls_ca is given, and {broker} is not encrypted: the broker's certificate is"
                " looked at with mqtts:// alone"
            )
    except (SettingsError, BrokerUrlError, CredentialsError) as bad:
        return _refuse(str(bad))
    if arguments.print_config:
        sys.stdout.write(settings.render(_shown(config)))
        return 0
    if not arguments.insecure and (fault := plaintext_fault(broker)):
        return _refuse(fault)
    if fault := _privacy_fault(config, account):
        return _refuse(fault)
    if find_spec("numpy") is None:
        return _refuse("training needs numpy: pip install 'fedmqtt[train]'")
    if fault := _task_fault(config.task):
        return _refuse(fault)
    if not Path(config.data).is_dir():
        return _refuse(f"data folder {config.data}: no such folder; choose another with --data")
    if fault := state_dir_fault(config.state_dir):
        return _refuse(f"{fault}; choose another with --state")
    if arguments.install_service:
        return _install(arguments)
    try:
        lock = FolderLock(config.state_dir)
    except FolderInUse as other:
        return _refuse(f"state folder {other}; give each client a folder of its own with --state")
    except OSError as bad:
        return _refuse(f"state folder {config.state_dir} cannot be locked: {bad.strerror}")
    loop = EventLoop()
    loop.stop_on_signals()
    pool = TrainerPool(loop, 1, config.trainer.keep_warm_s, config.trainer.nice)
    denied: list[str] = []

    def end(reason: str) -> None:
        denied.append(reason)
        loop.stop()

    owner = Owner(arguments.progress, loop.now)
    try:
        agent = Agent(
            loop,
            broker,
            config,
            pool,
            watch=owner.hear,
            on_denied=end,
            account=account,
            show=owner.show,
        )
        agent.start()
    except BrokerUrlError as bad:
        return _refuse(str(bad))
    except OSError as bad:
        what = f"{bad.filename}: {bad.strerror}"
        return _refuse(f"{what}; mend that, or choose another folder with --state")
    loop.run()
    owner.end()
    agent.stop()
    pool.close()
    loop.close()
    lock.release()
    if denied:
        sys.stderr.write(f"fedmqtt client: {denied[0]}\n")
        return EXIT_DENIED
    # Being stopped is how a client's life ends; there is no other success to report.
    return 0


def _install(arguments: argparse.Namespace) -> int:
    # Here: a client that waits has no use for it.
    from edge_client import service_unit

    try:
        is_root = os.geteuid() == 0
        told = service_unit.install(arguments, is_root=is_root, home=Path.home())
    except service_unit.NotInstalled as why:
        return _refuse(str(why))
    sys.stdout.write(f"{told}\n")
    return 0


def _privacy_fault(config: ClientConfig, account: Credentials | None) -> str:
    """Why it could never take part, or nothing."""
    asked = config.privacy
    hides = [
        f"privacy.{name} is {getattr(asked, name)!r}"
        for name, nothing in (("at_least", ("", "plain")), ("epsilon_max", (0.0,)))
        if getattr(asked, name) not in nothing
    ]
    if hides and "train" not in config.purposes:
        return (
            f"{hides[0]}, with which a client only trains, and purposes are"
            f" {', '.join(config.purposes)}: that leaves nothing to do"
        )
    if asked.noise_min:
        hides.append(f"privacy.noise_min is {asked.noise_min!r}")
    if hides and (account is None or not account.pinned):
        return (
            f"{hides[0]}, and this client knows no keyholder: give it the --credentials of a kit"
            " where some are enrolled"
        )
    return ""


def _shown(config: ClientConfig) -> ClientConfig:
    """For screens and files that are shown around."""
    return structs.replace(config, broker=without_password(config.broker))


def _task_fault(task: str) -> str:
    """Whether the task is there at all; whether it works is found by the trainer, in a round."""
    if task.endswith(".py"):
        return "" if Path(task).is_file() else f"task file {task}: no such file in {Path.cwd()}"
    try:
        found = find_spec(task)
    except (ImportError, ValueError):
        found = None
    return "" if found else f"task {task}: no such module; give its dotted name or a .py file"


def _refuse(why: str) -> int:
    sys.stderr.write(f"fedmqtt client: {why}\n")
    return 2


def _config(
    arguments: argparse.Namespace,
) -> tuple[ClientConfig, BrokerUrl, Credentials | None]:
    given = {name: value for name in _FLAGS if (value := getattr(arguments, name)) is not None}
    if arguments.accept_model is not None:
        given["privacy.accept_model"] = arguments.accept_model
    if arguments.at_least is not None:
        given["privacy.at_least"] = arguments.at_least
    if arguments.credentials is None:
        config = _read(arguments, given)
        return config, parse_broker_url(config.broker), None
    url = given.get("broker", "")
    account, broker = credentials.broker_of(arguments.credentials, ("device",), url)
    # Who we are is in the credentials; only the way to the broker may be another one.
    ours = {"federation": account.federation, "id": account.id, "broker": account.broker}
    config = _read(arguments, ours | given)
    for name in ("federation", "id"):
        if getattr(config, name) != ours[name]:
            raise SettingsError(
                f"{name} is {getattr(config, name)!r}, and {arguments.credentials} is for"
                f" {ours[name]!r}: leave {name} out, or enroll a device of that name"
            )
    return config, broker, account


def _read(arguments: argparse.Namespace, given: Mapping[str, str]) -> ClientConfig:
    overrides = [settings.override(name, value) for name, value in given.items()]
    return settings.read(arguments.config, [*overrides, *arguments.set], ClientConfig)

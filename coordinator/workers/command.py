"""Take in a part of the clients' answers, for a coordinator: check them and add them up.

    federation.toml, of coordinator and workers     [workers]
                                                    lanes = 32

    fedmqtt worker federation.toml --name worker-1

Workers may come, go and be killed at any time, also in the middle of a round: what was not handed
over is sent again by its clients, and the model is the same to the last bit. A worker keeps nothing
on disk that is needed after a restart. docs/scale.md tells when workers are of use, and how many.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from coordinator import checks
from coordinator.config import FederationConfig
from coordinator.workers.program import Worker
from fedmqtt import credentials, settings
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.credentials import CredentialsError
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import BrokerUrl, BrokerUrlError, parse_broker_url, plaintext_fault
from fedmqtt.settings import SettingsError
from fedmqtt.topics import NAME_RULE, ClientId, is_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="the federation's settings, as the coordinator's")
    parser.add_argument(
        "--name", default="", help="this worker's name, which no other has; credentials hold one"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, as for the coordinator; may be repeated",
    )
    parser.add_argument("--broker", help="override broker.url")
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="as `fedmqtt enroll KIT NAME --role worker` wrote it; the coordinator's own, which the"
        " settings may name, are never looked at",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="also unencrypted, in a network that you trust"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="where large answers are put together (the system's folder for what is temporary)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when it was told to end; 2 where it cannot begin; 3 where the broker does not let it in, or
    another worker has its name."""
    try:
        config = _config(arguments)
        name, broker = _account(arguments, config)
        if not arguments.insecure and (fault := plaintext_fault(broker)):
            raise SettingsError(fault)
        with tempfile.TemporaryDirectory(prefix="fedmqtt-worker-", dir=arguments.scratch) as folder:
            return _work(config, broker, name, Path(folder))
    except (SettingsError, BrokerUrlError, CredentialsError) as bad:
        return _refuse(str(bad))
    except OSError as bad:
        # A disk that is full does not say which file it was for.
        where = bad.filename or arguments.scratch or tempfile.gettempdir()
        return _refuse(f"{where}: {bad.strerror}; choose another folder with --scratch")


def _config(arguments: argparse.Namespace) -> FederationConfig:
    overrides = list(arguments.set)
    if arguments.broker is not None:
        overrides.append(settings.override("broker.url", arguments.broker))
    config = settings.read(arguments.config, overrides, FederationConfig)
    checks.check(config)
    if not config.workers.lanes:
        raise SettingsError(
            f"{arguments.config}: workers.lanes is 0, so there is nothing to do for workers: set it"
            " to 32, say, there and where the coordinator runs"
        )
    return config


def _account(arguments: argparse.Namespace, config: FederationConfig) -> tuple[ClientId, BrokerUrl]:
    if arguments.credentials is None:
        if not is_name(arguments.name):
            raise SettingsError(f"--name {arguments.name!r} names no worker: {NAME_RULE}")
        return ClientId(arguments.name), parse_broker_url(config.broker.url)
    url = config.broker.url if parse_broker_url(config.broker.url).tls else ""
    account, broker = credentials.broker_of(arguments.credentials, ("worker",), url)
    if account.federation != config.name:
        raise SettingsError(
            f"name is {config.name!r}, and {arguments.credentials} is for federation"
            f" {account.federation!r}"
        )
    if arguments.name not in ("", account.id):
        raise SettingsError(f"--name is {arguments.name}, and the credentials are {account.id}'s")
    return ClientId(account.id), broker


def _work(config: FederationConfig, broker: BrokerUrl, name: ClientId, folder: Path) -> int:
    loop = EventLoop()
    loop.stop_on_signals()
    worker = Worker(loop, config, broker, name, folder)
    worker.start()
    loop.run()
    worker.stop()
    loop.close()
    if worker.denied:
        sys.stderr.write(f"fedmqtt worker: {worker.denied}\n")
        return EXIT_DENIED
    added = "1 answer was" if worker.added == 1 else f"{worker.added} answers were"
    sys.stdout.write(f"{added} added up here\n")
    return 0


def _refuse(why: str) -> int:
    sys.stderr.write(f"fedmqtt worker: {why}\n")
    return EXIT_USAGE

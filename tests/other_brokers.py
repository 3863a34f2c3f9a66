"""RabbitMQ and NATS as children, for contract tests: on free loopback ports, gone when we are.

Each has a folder of its own; nothing of an installed service is used or touched.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from broker_config import leash
from broker_config.child import BrokerError, running
from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import usual_folders
from tests.own_broker import free_ports
from tests.patience import WITHIN_S

_RABBITMQ_CONF = """\
listeners.tcp = none
mqtt.listeners.tcp.default = 127.0.0.1:{port}
mqtt.allow_anonymous = true
mqtt.tcp_listen_options.nodelay = true
log.console = true
log.console.level = info
log.file = false
"""

RABBITMQ_READY = re.compile(r"Starting RabbitMQ (\S+)(?s:.*)Server startup complete")

_NATS_CONF = """\
server_name: fedmqtt-test
listen: "127.0.0.1:-1"
jetstream {{ store_dir: "{folder}" }}
mqtt {{ listen: "127.0.0.1:-1" }}
"""


@contextmanager
def running_rabbitmq() -> Iterator[RunningBroker]:
    """RabbitMQ with its MQTT plugin. Raises BrokerError."""
    server = find_rabbitmq()
    port, distribution = free_ports(2)
    with TemporaryDirectory(prefix="fedmqtt-rabbitmq-") as place:
        folder = Path(place)
        with rabbitmq_names(folder) as names:
            node = names | rabbitmq_node(folder, port, distribution)
            log = folder / "broker.log"
            with running(leashed(node, [server]), log, RABBITMQ_READY, WITHIN_S) as ready:
                yield RunningBroker(f"mqtt://127.0.0.1:{port}", f"RabbitMQ {ready[1]}")


@contextmanager
def rabbitmq_names(folder: Path) -> Iterator[dict[str, str]]:
    """The server of nodes' names, and how nodes find it. Raises BrokerError.

    It is a child of ours too: a node would start one that stays.
    """
    (port,) = free_ports(1)
    names = {"ERL_EPMD_PORT": str(port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
    command = leashed(names, [_find("epmd", []), "-debug"])
    with running(command, folder / "epmd.log", re.compile("epmd running")):
        yield names


def rabbitmq_node(folder: Path, port: int, distribution: int, more: str = "") -> dict[str, str]:
    """Writes its configuration, with `more` in it; the environment that it is started in."""
    (folder / "rabbitmq.conf").write_text(_RABBITMQ_CONF.format(port=port) + more)
    (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    return {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"fedmqtt-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        # The script becomes the node, which then is the one to be ended.
        "RUNNING_UNDER_SYSTEMD": "1",
    }


@contextmanager
def running_nats(more: str = "") -> Iterator[RunningBroker]:
    """NATS with JetStream and MQTT; `more` goes into its configuration. Raises BrokerError."""
    server = find_nats()
    with TemporaryDirectory(prefix="fedmqtt-nats-") as place:
        folder = Path(place)
        config = folder / "nats.conf"
        config.write_text(_NATS_CONF.format(folder=folder / "store") + more)
        said = (
            r"Version:\s+(\S+)(?s:.*)MQTT clients on mqtt://127.0.0.1:(\d+)(?s:.*)Server is ready"
        )
        with running(
            leashed({}, [server, "-c", str(config)]),
            folder / "broker.log",
            re.compile(said),
            WITHIN_S,
        ) as ready:
            yield RunningBroker(f"mqtt://127.0.0.1:{ready[2]}", f"NATS {ready[1]}")


def find_rabbitmq() -> str:
    # The package's own folder first: Debian's script in the PATH becomes another user.
    return _find("rabbitmq-server", [Path("/usr/lib/rabbitmq/bin")])


def find_nats() -> str:
    return _find("nats-server", [])


def _find(name: str, folders: Sequence[Path]) -> str:
    places = [*folders, *usual_folders()]
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        raise BrokerError(
            f"{name} is not installed here (Debian: apt-get install rabbitmq-server nats-server)"
        )
    return found


def leashed(environment: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """Ends when its stdin closes: nothing survives us."""
    words = [f"{name}={value}" for name, value in environment.items()]
    return [sys.executable, "-I", "-S", leash.__file__, "env", *words, *command]

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

_NATS_CONF = """\
server_name: fedmqtt-test
listen: "127.0.0.1:-1"
jetstream {{ store_dir: "{folder}" }}
mqtt {{ listen: "127.0.0.1:-1" }}
"""


@contextmanager
def running_rabbitmq() -> Iterator[RunningBroker]:
    """RabbitMQ with its MQTT plugin. Raises BrokerError."""
    server = _find("rabbitmq-server", [Path("/usr/lib/rabbitmq/bin")])
    epmd = _find("epmd", [])
    port, distribution, names = free_ports(3)
    # The names' server is a child of ours too: the node would start one that stays.
    with TemporaryDirectory(prefix="fedmqtt-rabbitmq-") as place:
        folder = Path(place)
        (folder / "rabbitmq.conf").write_text(_RABBITMQ_CONF.format(port=port))
        (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        places = {"ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        node = places | {
            "HOME": place,
            "RABBITMQ_NODENAME": f"fedmqtt-{port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": place,
            "RABBITMQ_LOG_BASE": place,
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # The script becomes the node, which then is the one to be ended.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        with (
            running(
                _leashed(places, [epmd, "-debug"]), folder / "epmd.log", re.compile("epmd running")
            ),
            running(
                _leashed(node, [server]),
                folder / "broker.log",
                re.compile(r"Starting RabbitMQ (\S+)(?s:.*)Server startup complete"),
                WITHIN_S,
            ) as ready,
        ):
            yield RunningBroker(f"mqtt://127.0.0.1:{port}", f"RabbitMQ {ready[1]}")


@contextmanager
def running_nats(more: str = "") -> Iterator[RunningBroker]:
    """NATS with JetStream and MQTT; `more` goes into its configuration. Raises BrokerError."""
    server = _find("nats-server", [])
    with TemporaryDirectory(prefix="fedmqtt-nats-") as place:
        folder = Path(place)
        config = folder / "nats.conf"
        config.write_text(_NATS_CONF.format(folder=folder / "store") + more)
        said = (
            r"Version:\s+(\S+)(?s:.*)MQTT clients on mqtt://127.0.0.1:(\d+)(?s:.*)Server is ready"
        )
        with running(
            _leashed({}, [server, "-c", str(config)]),
            folder / "broker.log",
            re.compile(said),
            WITHIN_S,
        ) as ready:
            yield RunningBroker(f"mqtt://127.0.0.1:{ready[2]}", f"NATS {ready[1]}")


def _find(name: str, folders: Sequence[Path]) -> str:
    # The package's own folder first: Debian's script in the PATH becomes another user.
    places = [*folders, *usual_folders()]
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        raise BrokerError(
            f"{name} is not installed here (Debian: apt-get install rabbitmq-server nats-server)"
        )
    return found


def _leashed(environment: Mapping[str, str], command: Sequence[str]) -> list[str]:
    words = [f"{name}={value}" for name, value in environment.items()]
    return [sys.executable, "-I", "-S", leash.__file__, "env", *words, *command]

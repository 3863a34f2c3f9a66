"""Clusters of three real brokers as children, for tests: nodes are killed, and come back.

    with running_nats_cluster() as cluster:
        cluster.kill(1)         # kill -9
        cluster.start(1)        # with what it had on its disk

Each is on free loopback ports and in a folder of its own; nothing of an installed service is used
or touched, and nothing is left when we are gone.
"""

import os
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from broker_config.child import running
from tests.other_brokers import (
    RABBITMQ_READY,
    find_nats,
    find_rabbitmq,
    leashed,
    rabbitmq_names,
    rabbitmq_node,
)
from tests.own_broker import free_ports
from tests.patience import WITHIN_S
from tests.programs import wait_until

NODES = 3

_ASK_FOR_S = 1.0
_COOKIE = "fedmqtt-tests"

_NATS_CONF = """\
server_name: node-{number}
listen: "127.0.0.1:-1"
pid_file: "{folder}/pid"
jetstream {{ store_dir: "{folder}/store" }}
cluster {{
  name: fedmqtt
  listen: "127.0.0.1:{cluster_port}"
  routes: [{routes}]
}}
mqtt {{ listen: "127.0.0.1:{port}", stream_replicas: 3 }}
"""

_RABBITMQ_CONF = """\
mqtt.durable_queue_type = quorum
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = {first}
"""


@dataclass(frozen=True, slots=True)
class _Node:
    """How one is started, and what tells that it is there."""

    url: str
    command: Sequence[str]
    folder: Path
    ready: re.Pattern[str]


class Cluster:
    """All its nodes take connections."""

    def __init__(self, name: str, nodes: Sequence[_Node]) -> None:
        self.name = name
        self._nodes = nodes
        self._lives: dict[int, ExitStack] = {}

    @property
    def nodes(self) -> list[str]:
        """Of each its URL."""
        return [node.url for node in self._nodes]

    @property
    def url(self) -> str:
        """Of all nodes, as programs take it."""
        return "mqtt://" + ",".join(url.removeprefix("mqtt://") for url in self.nodes)

    def start(self, number: int) -> None:
        """It takes connections when this returns. Raises BrokerError."""
        self.begin(number)
        wait_until(lambda: self.serves(number))

    def begin(self, number: int) -> None:
        """It may wait for others yet."""
        node = self._nodes[number]
        with ExitStack() as life:
            life.enter_context(running(node.command, node.folder / "log", node.ready, WITHIN_S))
            self._lives[number] = life.pop_all()

    def serves(self, number: int) -> bool:
        """Whether it lets a client in: that may take more nodes than this one."""
        return _serves(self.nodes[number])

    def kill(self, number: int) -> None:
        """As a machine goes that loses its power: no goodbye, neither to clients nor to nodes."""
        os.kill(int((self._nodes[number].folder / "pid").read_text()), signal.SIGKILL)
        self._lives.pop(number).close()

    def close(self) -> None:
        for life in self._lives.values():
            life.close()


@contextmanager
def running_nats_cluster() -> Iterator[Cluster]:
    """With JetStream on each node, and three copies of what MQTT keeps. Raises BrokerError."""
    server = find_nats()
    ports, cluster_ports = free_ports(NODES), free_ports(NODES)
    with _folders("nats") as folders:
        nodes = []
        for number, (folder, port) in enumerate(zip(folders, ports, strict=True)):
            config = folder / "nats.conf"
            words = _NATS_CONF.format(
                number=number,
                folder=folder,
                port=port,
                cluster_port=cluster_ports[number],
                routes=", ".join(f'"nats-route://127.0.0.1:{other}"' for other in cluster_ports),
            )
            config.write_text(words)
            command = leashed({}, [server, "-c", str(config)])
            ready = re.compile("Server is ready")
            nodes.append(_Node(f"mqtt://127.0.0.1:{port}", command, folder, ready))
        with _closing(Cluster("NATS", nodes)) as cluster:
            # None serves before two are there.
            for number in range(NODES):
                cluster.begin(number)
            wait_until(lambda: all(map(_serves, cluster.nodes)))
            yield cluster


@contextmanager
def running_rabbitmq_cluster() -> Iterator[Cluster]:
    """With the MQTT plugin, and sessions in quorum queues. Raises BrokerError."""
    server = find_rabbitmq()
    ports, distribution = free_ports(NODES), free_ports(NODES)
    first = f"fedmqtt-{ports[0]}@localhost"
    with _folders("rabbitmq") as folders, rabbitmq_names(folders[0].parent) as names:
        nodes = []
        for folder, port, own in zip(folders, ports, distribution, strict=True):
            cookie = folder / ".erlang.cookie"
            cookie.write_text(_COOKIE)
            cookie.chmod(0o400)
            words = rabbitmq_node(folder, port, own, _RABBITMQ_CONF.format(first=first))
            # Three of them on a machine that has other things to do.
            few = {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none"}
            command = leashed(names | words | few, [server])
            nodes.append(_Node(f"mqtt://127.0.0.1:{port}", command, folder, RABBITMQ_READY))
        with _closing(Cluster("RabbitMQ", nodes)) as cluster:
            # The others join the first one: before it is there, each would be a cluster of its own.
            cluster.start(0)
            with ThreadPoolExecutor() as pool:
                list(pool.map(cluster.start, range(1, NODES)))
            yield cluster


CLUSTERS = {"nats": running_nats_cluster, "rabbitmq": running_rabbitmq_cluster}
"""By the kind of broker, as FEDMQTT_REQUIRE_BROKERS calls it."""


@contextmanager
def _folders(name: str) -> Iterator[list[Path]]:
    with TemporaryDirectory(prefix=f"fedmqtt-{name}-cluster-") as place:
        folders = [Path(place) / str(number) for number in range(NODES)]
        for folder in folders:
            folder.mkdir()
        yield folders


@contextmanager
def _closing(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        cluster.close()


def _serves(url: str) -> bool:
    address, answered = urlsplit(url), Event()
    assert address.hostname is not None and address.port is not None
    client = paho.Client(CallbackAPIVersion.VERSION2, f"asks-{address.port}", clean_session=True)
    client.on_connect = lambda *told: answered.set() if not told[3].is_failure else None
    try:
        client.connect(address.hostname, address.port)
    except OSError:
        return False
    client.loop_start()
    serves = answered.wait(_ASK_FOR_S)
    client.disconnect()
    client.loop_stop()
    return serves

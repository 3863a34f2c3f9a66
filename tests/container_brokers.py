"""Brokers in containers, where a container engine answers: the same contract as all others.

Each from its own image, at a version that is named, with no more of a configuration than lets
everyone in.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker_config.local_broker import BrokerError, RunningBroker
from broker_config.mosquitto import DEPLOYED_CONFIG

_PORT = 1883
_RABBITMQ_CONF = b"loopback_users = none\nmqtt.tcp_listen_options.nodelay = true\n"
_NATS_CONF = b'server_name: fedmqtt\njetstream { store_dir: "/tmp/store" }\nmqtt { port: 1883 }\n'


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    ready: str
    """What its log says once it takes connections."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    command: str = ""


def _images() -> dict[str, _Image]:
    # testcontainers waits for the line that says it is running, and that is on this level.
    mosquitto = DEPLOYED_CONFIG.read_bytes() + b"log_type information\n"
    return {
        # The image's own `latest` moved from 2.0 to 2.1, and with it the packet limit.
        "container": _Image(
            "eclipse-mosquitto:2.0.22",
            r"mosquitto version .* running",
            {"/mosquitto/config/mosquitto.conf": mosquitto},
        ),
        "emqx-container": _Image("emqx/emqx:5.8.6", r"EMQX .* is running now"),
        "rabbitmq-container": _Image(
            "rabbitmq:4.1",
            r"Server startup complete",
            {
                "/etc/rabbitmq/enabled_plugins": b"[rabbitmq_mqtt].\n",
                "/etc/rabbitmq/conf.d/90-fedmqtt.conf": _RABBITMQ_CONF,
            },
        ),
        "nats-container": _Image(
            "nats:2.11", r"Server is ready", {"/fedmqtt.conf": _NATS_CONF}, "-c /fedmqtt.conf"
        ),
    }


KINDS = tuple(_images())


def other_kinds() -> list[str]:
    """All but `container`, which is always tried, and says why it cannot be had."""
    is_here = "DOCKER_HOST" in os.environ or Path("/var/run/docker.sock").exists()
    return [kind for kind in KINDS if kind != "container"] if is_here else []


@contextmanager
def running_container(kind: str) -> Iterator[RunningBroker]:
    """Raises BrokerError where no engine answers."""
    # Here, because most runs need no container and should not wait for these imports.
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    image = _images()[kind]
    try:
        container = DockerContainer(image.name).with_exposed_ports(_PORT)
        container = container.waiting_for(LogMessageWaitStrategy(image.ready))
        for place, content in image.files.items():
            container = container.with_copy_into_container(content, place)
        if image.command:
            container = container.with_command(image.command)
        container.start()
    except DockerException as error:
        raise BrokerError(f"no container engine answers: {error}") from error
    try:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(_PORT)}"
        yield RunningBroker(f"mqtt://{address}", f"{image.name} in a container")
    finally:
        container.stop()

"""Real brokers for tests.

A contract test takes `broker` and runs once for each broker that can be had here: Mosquitto from
this machine, the embedded one, Mosquitto in a container, and the one FEDMQTT_BROKER_URL names. A
broker that cannot be had is skipped with its reason, or fails the run if FEDMQTT_REQUIRE_BROKERS
("mosquitto,embedded") says it must be there.

Brokers serve the whole session, which is what makes these tests quick. So that tests do not meet
each other's retained messages, each uses the topics of its own `federation_name`.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from broker_config.local_broker import BrokerError, RunningBroker, start_broker
from broker_config.mosquitto import DEPLOYED_CONFIG, find_mosquitto
from tests.other_brokers import running_nats, running_rabbitmq

# The image's own `latest` moved from 2.0 to 2.1 and with it the packet limit; 2.0.11 is Debian's.
_IMAGE = "eclipse-mosquitto:2.0.22"
_YOUR_URL = os.environ.get("FEDMQTT_BROKER_URL")
_KINDS = ["mosquitto", "embedded", "container", *(["url"] if _YOUR_URL else [])]

_Have = Callable[[str], RunningBroker]


@pytest.fixture(scope="session", params=_KINDS)
def broker(request: pytest.FixtureRequest, _have: _Have) -> RunningBroker:
    """Each broker that can be had here, in turn."""
    return _have_or_skip(_have, request.param)


@pytest.fixture(scope="session", params=[*_KINDS, "rabbitmq", "nats"])
def any_broker(request: pytest.FixtureRequest, _have: _Have) -> RunningBroker:
    return _have_or_skip(_have, request.param)


@pytest.fixture(scope="session")
def mosquitto_broker(_have: _Have) -> RunningBroker:
    """A real Mosquitto: from this machine, or else in a container."""
    return _have_or_skip(_have, "mosquitto" if find_mosquitto() else "container")


@pytest.fixture(scope="session")
def embedded_broker(_have: _Have) -> RunningBroker:
    return _have_or_skip(_have, "embedded")


@pytest.fixture
def federation_name() -> str:
    """A name that no other test uses, and none has used before on a broker that stays."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def _have(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Have]:
    with ExitStack() as stack:

        @cache
        def have(kind: str) -> RunningBroker:
            return stack.enter_context(_start(kind, tmp_path_factory))

        yield have


def _have_or_skip(have: _Have, kind: str) -> RunningBroker:
    try:
        return have(kind)
    except BrokerError as error:
        reason = f"no {kind} broker here: {error}"
        if kind in os.environ.get("FEDMQTT_REQUIRE_BROKERS", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


def _start(kind: str, folders: pytest.TempPathFactory) -> AbstractContextManager[RunningBroker]:
    match kind:
        case "container":
            return _container(folders.mktemp("container"))
        case "rabbitmq":
            return running_rabbitmq()
        case "nats":
            return running_nats()
        case "url":
            assert _YOUR_URL is not None
            return start_broker(_YOUR_URL)
        case _:
            return start_broker(kind)


@contextmanager
def _container(folder: Path) -> Iterator[RunningBroker]:
    # Here, because most runs need no container and should not wait for these imports.
    from docker.errors import DockerException
    from testcontainers.community.mqtt import MosquittoContainer

    config = folder / "mosquitto.conf"
    # testcontainers waits for the line that says it is running, and that is on this level.
    config.write_text(DEPLOYED_CONFIG.read_text(encoding="utf-8") + "log_type information\n")
    try:
        container = MosquittoContainer(_IMAGE).start(str(config))
    except DockerException as error:
        raise BrokerError(f"no container engine answers: {error}") from error
    try:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(1883)}"
        yield RunningBroker(f"mqtt://{address}", f"{_IMAGE} in a container")
    finally:
        container.stop()

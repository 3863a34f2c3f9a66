"""Real brokers for tests.

A test of ours that needs a broker takes `broker` and runs once for each of those that people begin
with: Mosquitto from this machine, the embedded one, Mosquitto in a container, and the one that
FEDMQTT_BROKER_URL names. A test of what we ask of *any* broker takes `any_broker`, and runs for
RabbitMQ, NATS and EMQX too. A broker that cannot be had is skipped with its reason, or fails the
run if FEDMQTT_REQUIRE_BROKERS ("mosquitto,embedded") says it must be there.

Brokers serve the whole session, which is what makes these tests quick. So that tests do not meet
each other's retained messages, each uses the topics of its own `federation_name`.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache

import pytest

from broker_config.local_broker import BrokerError, RunningBroker, start_broker
from broker_config.mosquitto import find_mosquitto
from tests import container_brokers
from tests.other_brokers import running_nats, running_rabbitmq

_YOUR_URL = os.environ.get("FEDMQTT_BROKER_URL")
_KINDS = ["mosquitto", "embedded", "container", *(["url"] if _YOUR_URL else [])]
_OTHER_KINDS = ["rabbitmq", "nats", *container_brokers.other_kinds()]

_Have = Callable[[str], RunningBroker]


@pytest.fixture(scope="session", params=_KINDS)
def broker(request: pytest.FixtureRequest, _have: _Have) -> RunningBroker:
    """Each broker that can be had here, in turn."""
    return _have_or_skip(_have, request.param)


@pytest.fixture(scope="session", params=[*_KINDS, *_OTHER_KINDS])
def broker_kind(request: pytest.FixtureRequest) -> str:
    """As FEDMQTT_REQUIRE_BROKERS calls it."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def any_broker(broker_kind: str, _have: _Have) -> RunningBroker:
    """Each broker of any make that can be had here, in turn."""
    return _have_or_skip(_have, broker_kind)


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
def _have() -> Iterator[_Have]:
    with ExitStack() as stack:

        @cache
        def have(kind: str) -> RunningBroker:
            return stack.enter_context(_start(kind))

        yield have


def is_required(kind: str) -> bool:
    return kind in os.environ.get("FEDMQTT_REQUIRE_BROKERS", "").split(",")


def _have_or_skip(have: _Have, kind: str) -> RunningBroker:
    try:
        return have(kind)
    except BrokerError as error:
        reason = f"no {kind} broker here: {error}"
        if is_required(kind):
            pytest.fail(reason)
        pytest.skip(reason)


def _start(kind: str) -> AbstractContextManager[RunningBroker]:
    match kind:
        case "rabbitmq":
            return running_rabbitmq()
        case "nats":
            return running_nats()
        case "url":
            assert _YOUR_URL is not None
            return start_broker(_YOUR_URL)
        case _ if kind in container_brokers.KINDS:
            return container_brokers.running_container(kind)
        case _:
            return start_broker(kind)

"""Fixtures that every test may ask for."""

import pytest
from hypothesis import settings

from tests.brokers import (
    _have,
    any_broker,
    broker,
    broker_kind,
    embedded_broker,
    federation_name,
    mosquitto_broker,
)
from tests.own_object_store import object_store, own_object_store, store_address
from tests.own_postgresql import database, own_server, postgresql

__all__ = [
    "_have",
    "any_broker",
    "broker",
    "broker_kind",
    "database",
    "embedded_broker",
    "federation_name",
    "mosquitto_broker",
    "object_store",
    "own_object_store",
    "own_server",
    "postgresql",
    "store_address",
]


# No test judges speed: on a busy machine one example of thousands takes long.
settings.register_profile("fedmqtt", deadline=None)
settings.load_profile("fedmqtt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="accept what scripts print and messages look like"
    )

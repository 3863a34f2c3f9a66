"""Fixtures that every test may ask for."""

import pytest

from tests.brokers import (
    _have,
    any_broker,
    broker,
    broker_kind,
    embedded_broker,
    federation_name,
    mosquitto_broker,
)
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
    "own_server",
    "postgresql",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="accept what scripts print and messages look like"
    )

"""Fixtures of this folder's tests."""

from tests.fedmqtt.peer import loop
from tests.fedmqtt.stub_broker import stub

__all__ = ["loop", "stub"]

"""Fixtures of this folder's tests."""

from tests.fedmqtt.peer import loop

__all__ = ["loop"]

"""Fixtures of this folder's tests."""

from tests.round_monitor.conftest import browser

__all__ = ["browser"]

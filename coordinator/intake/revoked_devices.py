"""Devices that are enrolled no more: not invited, and not waited for.

    the list says that it is not enrolled ──▶ barred ──a birth, or a good signature──▶ tried again
                                                ▲                                         │
                                                └── it signs by a revoked key ────────────┘

That a presence is retained says nothing of a device that was revoked: the broker may pass on
neither its answers nor its last words. So the list decides (`fedmqtt/revocations.py`). But a list
that was copied here may be older than the device's new key, which nobody can know of before it
signs; and who is not invited signs nothing. So a birth, which such a device has when it begins with
its new credentials, gets it one try.
"""

import logging
from collections.abc import Callable

from fedmqtt.revocations import Revocations
from fedmqtt.topics import ClientId

WHY = "revoked: it is enrolled no more"

_LOGGED_MAX = 10
"""Names in one line."""

_log = logging.getLogger("coordinator")


class RevokedDevices:
    """Of one coordinator; without a list there are none."""

    def __init__(
        self, revocations: Revocations | None, on_change: Callable[[ClientId], None]
    ) -> None:
        """`on_change` hears of each device that is barred from now on, or is not any more."""
        self._revocations = revocations
        self._on_change = on_change
        self._listed: frozenset[ClientId] = frozenset()
        self._tried: set[ClientId] = set()
        """Of those, who may take part until it signs by a revoked key, or the list changes."""

    @property
    def barred(self) -> list[ClientId]:
        return sorted(self._listed - self._tried)

    def is_barred(self, client: ClientId) -> bool:
        return client in self._listed and client not in self._tried

    def poll(self) -> None:
        """See whether the list has changed."""
        listed = frozenset() if self._revocations is None else self._revocations.devices
        if listed == self._listed:
            return
        before, self._listed = set(self.barred), listed
        self._tried.clear()
        new = sorted(listed - before)
        if new:
            more = f" and {len(new) - _LOGGED_MAX} more" if len(new) > _LOGGED_MAX else ""
            _log.info("revoked, and not invited any more: %s%s", ", ".join(new[:_LOGGED_MAX]), more)
        for client in sorted(before ^ listed):
            self._on_change(client)

    def try_again(self, client: ClientId) -> None:
        """It was born anew, or signed by a key that counts: the list may be older than that."""
        if self.is_barred(client):
            self._tried.add(client)
            self._on_change(client)

    def signed_by_revoked_key(self, client: ClientId) -> None:
        # The seal may have read a newer list than we have.
        self.poll()
        if client in self._tried:
            self._tried.discard(client)
            self._on_change(client)

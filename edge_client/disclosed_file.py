"""What a device has told a federation so far, on its disk. Raises OSError.

<state>/disclosed-<federation>     SHA-256 of the rest, 32 bytes | JSON
"""

import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_client.disclosed import NOTHING, Disclosed
from edge_client.outbox import force_to_disk
from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import Torn

_log = logging.getLogger("client.privacy")


class _Kept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    federation: str
    disclosed: Disclosed


class DisclosedFile:
    def __init__(self, folder: Path, federation: str) -> None:
        self.path = folder / f"disclosed-{federation}"
        self._federation = federation
        self._written = self._read()

    def read(self) -> Disclosed:
        """As it was written last. Of a file that is damaged, or of another federation, that nothing
        is known any more: to spoil a file must not open the door."""
        return self._written

    def keep(self, disclosed: Disclosed) -> None:
        """On the disk when this returns."""
        if disclosed == self._written:
            return
        kept = _Kept(federation=self._federation, disclosed=disclosed)
        checked_file.write(self.path, [msgspec.json.encode(kept)])
        force_to_disk(os.open(self.path.parent, os.O_RDONLY))
        self._written = disclosed

    def _read(self) -> Disclosed:
        if not self.path.exists():
            return NOTHING
        try:
            kept = msgspec.json.decode(checked_file.read(self.path), type=_Kept)
        except (Torn, *unreadable.MESSAGE) as bad:
            _log.error("what was told so far is not known any more: %s: %s", self.path, bad)
            return Disclosed(lost=True)
        if kept.federation != self._federation:
            _log.error("%s is of federation %s", self.path, kept.federation)
            return Disclosed(lost=True)
        return kept.disclosed

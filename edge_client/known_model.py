"""How the models are built that this device trains, on disk: the first one's fingerprint, for each
federation and task.

A model may be built to carry single samples through any sum. So where answers are masked a device
goes on with the kind of model that it began with, until its owner accepts another.
"""

import logging
from pathlib import Path

import msgspec

from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import Torn

_log = logging.getLogger("client.model")

NOT_KNOWN_ANY_MORE = "not known any more"
"""In place of a fingerprint: the file is damaged, and its owner has to say which model is right."""


class KnownModels:
    """In one file. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, str] | None = {}
        if path.exists():
            try:
                self._kept = msgspec.json.decode(checked_file.read(path), type=dict[str, str])
            except (Torn, *unreadable.MESSAGE) as bad:
                # Not as if there had been none: to damage a file must not open the door.
                _log.error("how models were built is not known any more: %s: %s", path, bad)
                self._kept = None

    def of(self, federation: str, task: str) -> str:
        """The fingerprint; empty where none has been trained yet."""
        if self._kept is None:
            return NOT_KNOWN_ANY_MORE
        return self._kept.get(_name(federation, task), "")

    def keep(self, federation: str, task: str, fingerprint: str) -> None:
        if self.of(federation, task) == fingerprint:
            return
        kept = {**(self._kept or {}), _name(federation, task): fingerprint}
        checked_file.write(self._path, [msgspec.json.encode(kept)])
        self._kept = kept


def _name(federation: str, task: str) -> str:
    return f"{federation}/{task}"

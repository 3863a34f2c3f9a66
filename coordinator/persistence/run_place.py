"""A run's folder: who has it, and how it is named."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.persistence.storage import Storage
from fedmqtt.folder_lock import FolderLock

_STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?")


@dataclass(slots=True)
class Place:
    """A run's folder, which is this program's alone until it is released."""

    lock: FolderLock
    storage: Storage | None = None
    """What the run's ledger is written to; None: a file in the folder."""

    def release(self) -> None:
        """May be called again."""
        if self.storage is not None:
            self.storage.close()
        self.lock.release()


def in_time(names: Iterable[str], federation: str) -> list[str]:
    """Of the names of folders, those of this federation's runs, newest first."""
    # A run of "a-b" is none of "a".
    ours = [name for name in names if _STAMP.fullmatch(name.removeprefix(federation))]
    return sorted(ours, reverse=True)

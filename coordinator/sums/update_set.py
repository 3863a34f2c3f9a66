"""All changes of a round at once, on disk: for rules that compare them with each other.

    fold ──▶ appended to a file without a name ──finish──▶ mapped, in the order of names

The file is as large as the answers that came, at most `terms_max` models of float32. It has no name
in its folder, so nothing stays behind however the program ends: after a restart the set is made
again from the ledger's answers.
"""

import errno
import shutil
import weakref
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from coordinator.rounds import Named
from fedmqtt.weights import Array


class NoRoom(OSError):
    """The disk has no room for a round's updates."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class UpdateSet:
    def __init__(self, folder: Path, size: int, rows_max: int) -> None:
        """Raises NoRoom where `rows_max` changes of `size` numbers would not fit. OSError."""
        needed, free = 4 * size * rows_max, shutil.disk_usage(folder).free
        if free < needed:
            raise NoRoom(
                errno.ENOSPC,
                f"this aggregation keeps all of a round's updates there, up to {rows_max} of"
                f" {4 * size / 1e6:.1f} MB, and {free // 10**6} MB are free",
                str(folder),
            )
        self._size = size
        self._file = TemporaryFile(dir=folder, prefix="updates-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._senders: list[tuple[tuple[str, int], int]] = []

    def add(self, named: Named, change: Array, sample_count: int) -> None:
        """Raises OSError when the disk is full after all."""
        # Written, not mapped: a full disk is an error here, and would be a signal there.
        self._file.write(np.ascontiguousarray(change, np.float32).data)
        self._senders.append(((named.client, named.round), sample_count))

    def __len__(self) -> int:
        return len(self._senders)

    def names(self) -> list[str]:
        """Of the rows, in their order: by client and round, however they came."""
        return [f"{client}/{number}" for (client, number), _ in sorted(self._senders)]

    def samples(self) -> list[int]:
        """In the order of the rows."""
        return [count for _, count in sorted(self._senders)]

    def stored(self) -> tuple[Array, list[int]]:
        """All changes as they came, shape (n, size), on disk; and at which place each row is.

        There must be one.
        """
        self._file.flush()
        mapped: Array = np.memmap(
            self._file, np.float32, mode="r", shape=(len(self._senders), self._size)
        )
        came = range(len(self._senders))
        return mapped, sorted(came, key=lambda place: self._senders[place][0])

    def close(self) -> None:
        """Its room on the disk is free again."""
        self._file.close()

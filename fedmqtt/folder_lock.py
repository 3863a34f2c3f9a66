"""One program per folder: a lock that the kernel takes back when its holder ends, however it ends.

The file stays there, also unlocked: to remove it would let two programs each lock a file of their
own under one name.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

NAME = ".lock"
_PID_BYTES_MAX = 32


class FolderInUse(Exception):
    """Another program holds the folder; says which, where that can be read."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        by = "another program" if pid is None else f"process {pid}"
        super().__init__(f"{folder} is in use by {by}")
        self.folder = folder
        self.pid = pid


class FolderLock:
    """Held from when it is made until `release`, or until this process is no more.

    Not by children: Python opens files so that a started program does not inherit them, and
    who outlives a killed holder must not keep its folder. Raises FolderInUse, and OSError where the
    folder cannot be made or locked.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: int | None = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid_in(self._file)
            self.release()
            raise FolderInUse(folder, pid) from None
        except OSError:
            self.release()
            raise
        # For people, and for the message above: what holds is the lock, not these digits. A full
        # disk has no room for them, and what is owed from here may be what fills it.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """May be called again."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def holder_of(folder: Path) -> str:
    """Which program holds it, in words; empty where none does. Leaves the folder as it is."""
    if not (folder / NAME).exists():
        return ""
    try:
        FolderLock(folder).release()
    except FolderInUse as other:
        return "another program" if other.pid is None else f"process {other.pid}"
    except OSError:
        # Another user's: who may not write there cannot ask.
        return ""
    return ""


def _pid_in(file: int) -> int | None:
    # Empty in the moment between locking and writing, and where the disk was full.
    text = os.pread(file, _PID_BYTES_MAX, 0).strip()
    return int(text) if text.isdigit() else None

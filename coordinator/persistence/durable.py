"""What survives a loss of power."""

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Whole or not at all: to a file beside it, then one rename. Raises OSError. `mode`, less what
    the process gives to nobody: who may read it, from the first byte on.

    When this returns, a loss of power would not lose it.
    """
    write_pieces(path, (data,), mode)


def write_pieces(path: Path, pieces: Iterable[bytes], mode: int = 0o666) -> None:
    """The same from pieces, one after the other. What they raise leaves nothing behind."""
    part = path.with_suffix(".part")
    try:
        # One that a crash left behind may be readable by others.
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        force(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def force(path: Path) -> None:
    """A file, or the names in a folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

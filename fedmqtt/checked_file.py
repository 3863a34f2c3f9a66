"""Files that tell whether they are as they were written.

SHA-256 of the rest, 32 bytes | the rest
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

HASH_BYTES = 32


class Torn(ValueError):
    """A file that is not as it was written; says which."""


def write(path: Path, pieces: Sequence[bytes | memoryview], *, secret: bool = False) -> None:
    """These, one after the other, whole or not at all. Raises OSError.

    A secret is at no moment readable by others.
    What is in it is on the disk when this returns; its name is once its folder is forced there.
    """
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o666)
        with os.fdopen(made, "wb") as file:
            for piece in (hasher.digest(), *pieces):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: Path) -> memoryview:
    """What was written. Raises Torn and OSError."""
    data = memoryview(path.read_bytes())
    if hashlib.sha256(data[HASH_BYTES:]).digest() != data[:HASH_BYTES]:
        raise Torn(f"{path} is not as it was written")
    return data[HASH_BYTES:]

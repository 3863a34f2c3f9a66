"""Files as rows of a ledger, in pieces: for who goes on with its run in another folder.

    file    name, below the run's folder │ SHA-256 │ where it lies, if not here
    piece   name │ 0, 1, 2 ... │ its bytes

Memory holds one piece at a time, however large a file is.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from coordinator.persistence.durable import write_pieces
from coordinator.persistence.storage import Database, Row

PIECE_BYTES = 1024 * 1024

Rows = Callable[[str, Sequence[Any]], list[Row]]


class FileDamaged(ValueError):
    """What is in the rows is not what was written."""


def digest_of(path: Path) -> str:
    """SHA-256, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_here(path: Path, digest: str) -> bool:
    """Whether the file is there, and is that one. Raises OSError."""
    return path.exists() and digest_of(path) == digest


def write(db: Database, name: str, path: Path) -> None:
    """In the place of what had that name. Raises OSError."""
    forget(db, [name])
    whole = hashlib.sha256()
    with path.open("rb") as file:
        number = 0
        while piece := file.read(PIECE_BYTES):
            whole.update(piece)
            db.run("INSERT INTO piece (name, number, data) VALUES (?, ?, ?)", (name, number, piece))
            number += 1
    db.run("INSERT INTO file (name, digest) VALUES (?, ?)", (name, whole.hexdigest()))


def lies_elsewhere(db: Database, name: str, digest: str, address: str) -> None:
    """In the place of what had that name: its bytes are not here."""
    forget(db, [name])
    db.run("INSERT INTO file (name, digest, object) VALUES (?, ?, ?)", (name, digest, address))


def forget(db: Database, names: Iterable[str]) -> None:
    rows = [(name,) for name in names]
    db.run_many("DELETE FROM piece WHERE name = ?", rows)
    db.run_many("DELETE FROM file WHERE name = ?", rows)


def fetch(path: Path, pieces: Iterable[bytes], digest: str, name: str, mode: int = 0o666) -> None:
    """Make `path` that file, whole or not at all. Raises FileDamaged, and OSError."""
    whole = hashlib.sha256()

    def checked() -> Iterator[bytes]:
        for piece in pieces:
            whole.update(piece)
            yield piece
        if whole.hexdigest() != digest:
            raise FileDamaged(f"{name} is not the file that was written there")

    path.parent.mkdir(exist_ok=True)
    write_pieces(path, checked(), mode)


def pieces(rows: Rows, name: str) -> Iterator[bytes]:
    number = 0
    while found := rows("SELECT data FROM piece WHERE name = ? AND number = ?", (name, number)):
        ((data,),) = found
        yield data
        number += 1

"""What survives a loss of power."""

import os
from pathlib import Path


def force(path: Path) -> None:
    """A file, or the names in a folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

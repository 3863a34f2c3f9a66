"""Whether a federation is quiet, on disk: so that a device that has been there before says nothing
from its next start on, and leaves no will.

One empty file, or none. It is a hint: what is wrong with it is put right by the next offer, and
costs one message.
"""

from pathlib import Path


class QuietFile:
    """Of one device and federation. Raises OSError."""

    def __init__(self, folder: Path, federation: str) -> None:
        self._path = folder / f"quiet-{federation}"

    @property
    def is_there(self) -> bool:
        return self._path.exists()

    def keep(self, quiet: bool) -> None:
        if quiet == self.is_there:
            return
        if quiet:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        else:
            self._path.unlink()

"""A keyholder's round keys on disk: one file each, until its private half is deleted.

<folder>/<number>.key     mode 0600: private and public half (X25519), behind their SHA-256
"""

import os
from dataclasses import dataclass
from pathlib import Path

from fedmqtt import checked_file
from fedmqtt.checked_file import Torn
from fedmqtt.masking import sealing

_ENDING = ".key"
_HALF = 32


@dataclass(frozen=True, slots=True)
class Pair:
    private: bytes
    public: bytes

    def __repr__(self) -> str:
        """Without the private half: this may get into a traceback."""
        return f"<round key {self.public.hex()[:8]}>"


class RoundKeys:
    """Raises OSError, as all here do. Knows no numbers but those of files that are there: who makes
    keys sees to it that no number comes twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.damaged: list[Path] = []
        """That could not be read, and are gone."""
        self._pairs: dict[int, Pair] = {}
        for path in sorted(folder.iterdir()):
            if (number := _number(path)) is None:
                # Half written when a crash came.
                _erase(path)
            elif (pair := _read(path)) is None:
                _erase(path)
                self.damaged.append(path)
            else:
                self._pairs[number] = pair
        force(folder)

    @property
    def publics(self) -> dict[int, bytes]:
        """By number, growing."""
        return {number: self._pairs[number].public for number in sorted(self._pairs)}

    def private(self, number: int) -> bytes:
        return self._pairs[number].private

    def make(self, number: int) -> None:
        """On the disk when this returns."""
        assert number not in self._pairs
        pair = Pair(*sealing.new_round_key())
        checked_file.write(self._path(number), [pair.private, pair.public], secret=True)
        force(self._folder)
        self._pairs[number] = pair

    def made_before(self, number: int, then: float) -> bool:
        """Whether it was made before this moment, in seconds of the clock of files."""
        return self._path(number).stat().st_mtime < then

    def delete(self, numbers: list[int]) -> None:
        """Their private halves are nowhere when this returns, as far as the file system goes."""
        for number in numbers:
            _erase(self._path(number))
            # At once: should the next fail, nothing is opened with this one either.
            del self._pairs[number]
        if numbers:
            force(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}{_ENDING}"


def force(folder: Path) -> None:
    """The names in it to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(path: Path) -> int | None:
    digits = path.name.removesuffix(_ENDING)
    is_ours = path.name.endswith(_ENDING) and digits.isascii() and digits.isdigit()
    return int(digits) if is_ours and len(digits) <= 16 else None


def _read(path: Path) -> Pair | None:
    try:
        halves = bytes(checked_file.read(path))
    except Torn:
        return None
    return Pair(halves[:_HALF], halves[_HALF:]) if len(halves) == 2 * _HALF else None


def _erase(path: Path) -> None:
    """Written over first: a name that is gone leaves the bytes where they were."""
    try:
        with path.open("r+b") as file:
            size = path.stat().st_size
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    path.unlink(missing_ok=True)

"""Finished answers on disk, kept until the coordinator's receipt: one file each.

    <folder>/<round>-<digest>.answer    the encoded message, whole
    <folder>/<anything>.damaged         a file whose bytes are not what its name says, set aside

A file appears under its name by one rename, so a crash of ours leaves a whole answer or none. It
is forced to the disk only when no receipt comes at once (`settle`): most answers are received in
less time than an SD card needs for that, and need not wear it out.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from edge_client.session import Answer
from fedmqtt.topics import Digest, RoundId

_FILE_NAME = re.compile(r"(0|[1-9][0-9]{0,9})-([0-9a-f]{64})\.answer")
_READ_BYTES = 1024 * 1024


class Outbox:
    """Raises OSError when the disk does: a person must see that, the answer is not lost yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, round_id: RoundId, parts: Iterable[bytes | memoryview]) -> Answer:
        """Keep one answer, given in pieces. Called by the trainer's process."""
        part = self.folder / f"{round_id}.{os.getpid()}.part"
        hasher, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                for piece in parts:
                    file.write(piece)
                    hasher.update(piece)
                    size += len(piece)
            answer = Answer(round_id, Digest(hasher.hexdigest()), size)
            part.replace(self._path(answer))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return answer

    def settle(self, answer: Answer) -> None:
        """Make the answer survive a loss of power."""
        for path in (self._path(answer), self.folder):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def answers(self) -> tuple[tuple[Answer, ...], tuple[Path, ...]]:
        """What an earlier life of this client left: whole answers, oldest first, and damaged files.

        Damaged ones are renamed, so that they are neither sent nor lost.
        """
        whole: list[Answer] = []
        damaged: list[Path] = []
        for path in sorted(self.folder.glob("*.answer")):
            answer = _answer_in(path)
            if answer is None:
                damaged.append(path.rename(path.with_suffix(".damaged")))
            else:
                whole.append(answer)
        for leftover in self.folder.glob("*.part"):
            leftover.unlink()
        return tuple(sorted(whole, key=lambda one: one.round)), tuple(damaged)

    def read(self, answer: Answer) -> bytes:
        return self._path(answer).read_bytes()

    def open(self, answer: Answer) -> BinaryIO:
        return self._path(answer).open("rb")

    def forget(self, answer: Answer) -> None:
        self._path(answer).unlink(missing_ok=True)

    def _path(self, answer: Answer) -> Path:
        return self.folder / f"{answer.round}-{answer.digest}.answer"


def _answer_in(path: Path) -> Answer | None:
    named = _FILE_NAME.fullmatch(path.name)
    if named is None:
        return None
    digest = Digest(named[2])
    try:
        whole = sha256_of(path) == digest
    except OSError:
        # An SD card that is dying. The other answers need not wait for it.
        return None
    return Answer(RoundId(int(named[1])), digest, path.stat().st_size) if whole else None


def sha256_of(path: Path) -> Digest:
    """Of a file, in pieces: the agent never holds a model or an answer in memory."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
    return Digest(hasher.hexdigest())

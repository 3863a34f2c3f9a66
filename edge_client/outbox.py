"""Finished answers on disk, kept until the coordinator's receipt: one file each.

    <folder>/<run>-<round>-<digest>.answer    the encoded message, whole
    <folder>/<anything>.damaged               bytes that are not what the name says, set aside

A file appears under its name by one rename, so a crash of ours leaves a whole answer or none. It
is forced to the disk only when no receipt comes at once (`settle`): most answers are received in
less time than an SD card needs for that, and need not wear it out.
"""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_client.session import Answer
from fedmqtt.topics import Digest, RoundId, RunId

# A run's name may hold more of these hyphens; round and digest hold none.
_FILE_NAME = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})-(0|[1-9][0-9]{0,9})-([0-9a-f]{64})\.answer"
)
_READ_BYTES = 1024 * 1024
_DAMAGED_KEPT = 10
_DAMAGED_BYTES_MAX = 64 * 1024 * 1024
"""For who wants to know what happened. More would fill the disk of a device whose card is dying."""
_FOR_GOOD = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ESTALE)
"""Too many open files, or a permission that was taken away, can be mended; not these."""


class AnswerLost(Exception):
    """The file is gone, or is no longer what it was; says which."""


class Outbox:
    """Raises OSError when the disk does: a person must see that, the answer is not lost yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(
        self,
        run: RunId,
        round_id: RoundId,
        parts: Iterable[bytes | memoryview],
        before: Callable[[Answer], None] = lambda answer: None,
    ) -> Answer:
        """Keep one answer, given in pieces. Called by the trainer's process.

        `before` is told what it is called a moment before it is there.
        """
        part = self.folder / f"{run}-{round_id}.{os.getpid()}.part"
        hasher, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                for piece in parts:
                    file.write(piece)
                    hasher.update(piece)
                    size += len(piece)
            answer = Answer(run, round_id, Digest(hasher.hexdigest()), size)
            before(answer)
            part.replace(self._path(answer))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return answer

    def has(self, run: RunId, round_id: RoundId) -> bool:
        """Whether an answer to this round is there already."""
        prefix = f"{run}-{round_id}-"
        return any(path.name.startswith(prefix) for path in files(self.folder, ".answer"))

    def settle(self, answer: Answer) -> None:
        """Make the answer survive a loss of power. Raises AnswerLost where it is not there."""
        with self._lost_for_good(answer):
            file = os.open(self._path(answer), os.O_RDONLY)
        force_to_disk(file)
        # Its name is in the folder.
        force_to_disk(os.open(self.folder, os.O_RDONLY))

    def answers(self) -> tuple[tuple[Answer, ...], tuple[Path, ...]]:
        """What an earlier life left: whole answers, by run and round, and damaged files.

        Damaged ones are set aside, so that they are neither sent nor lost: the newest, and of those
        before it a few.
        """
        whole: list[Answer] = []
        damaged: list[Path] = []
        for path in files(self.folder, ".answer"):
            answer = _answer_in(path)
            if answer is None:
                damaged.append(self._set_aside(path))
            else:
                whole.append(answer)
        return tuple(sorted(whole, key=lambda one: (one.run, one.round))), tuple(damaged)

    def read(self, answer: Answer) -> bytes:
        """The whole of a small one. Raises AnswerLost, as `piece` does."""
        with self._lost_for_good(answer):
            data = self._path(answer).read_bytes()
        if hashlib.sha256(data).hexdigest() != answer.digest:
            raise self.changed(answer)
        return data

    def piece(self, answer: Answer, start: int, stop: int) -> bytes:
        """A part of a large one, as it is: see `reading`."""
        with self._lost_for_good(answer), self._path(answer).open("rb") as file:
            data = os.pread(file.fileno(), stop - start, start)
        if len(data) != stop - start:
            raise self._damaged(answer, "it is shorter than it was")
        return data

    def reading(self, answer: Answer) -> "Reading":
        """For who needs a large one in pieces."""
        return Reading(self, answer)

    def forget(self, answer: Answer) -> None:
        self._path(answer).unlink(missing_ok=True)

    def changed(self, answer: Answer) -> AnswerLost:
        """Set it aside: its bytes are not those that its digest was made from."""
        return self._damaged(answer, "its bytes have changed")

    @contextmanager
    def _lost_for_good(self, answer: Answer) -> Iterator[None]:
        try:
            yield
        except OSError as bad:
            if bad.errno not in _FOR_GOOD:
                raise
            raise self._damaged(answer, bad.strerror or str(bad)) from bad

    def _damaged(self, answer: Answer, why: str) -> AnswerLost:
        path = self._path(answer)
        self._set_aside(path)
        return AnswerLost(f"{path}: {why}")

    def _set_aside(self, path: Path) -> Path:
        """Where it is now."""
        aside = path.with_suffix(".damaged")
        try:
            path.rename(aside)
            # When it was set aside, not when it was written: the newest are kept.
            os.utime(aside)
        except OSError:
            # It is not there, or the disk takes nothing any more. It is told of all the same.
            return path
        self._thin_out()
        return aside

    def _thin_out(self) -> None:
        stats = [(one, one.lstat()) for one in self.folder.glob("*.damaged")]
        size_bytes = 0
        for number, (one, stat) in enumerate(
            sorted(stats, key=lambda each: each[1].st_mtime_ns, reverse=True)
        ):
            size_bytes += stat.st_size
            # The newest stays however large it is: somebody is being told of it.
            if number and (number >= _DAMAGED_KEPT or size_bytes > _DAMAGED_BYTES_MAX):
                # Not ours, if it is a folder.
                with suppress(OSError):
                    one.unlink()

    def _path(self, answer: Answer) -> Path:
        return self.folder / f"{answer.run}-{answer.round}-{answer.digest}.answer"


class Reading:
    """An answer that is read in pieces, ascending, and checked where that is all of it.

    Who puts the pieces together finds that they are not the answer, but not which of them: it would
    ask for all of them again, for ever.
    """

    def __init__(self, outbox: Outbox, answer: Answer) -> None:
        self._outbox = outbox
        self._answer = answer
        self._hasher = hashlib.sha256()
        self._read_bytes = 0
        """From the beginning, without a gap."""

    def piece(self, start: int, stop: int) -> bytes:
        """As `Outbox.piece`. Raises AnswerLost instead of giving out the last piece of a whole that
        has changed.
        """
        data = self._outbox.piece(self._answer, start, stop)
        if start == self._read_bytes:
            self._hasher.update(data)
            self._read_bytes = stop
        is_whole = self._read_bytes == self._answer.size_bytes
        if is_whole and self._hasher.hexdigest() != self._answer.digest:
            raise self._outbox.changed(self._answer)
        return data


def force_to_disk(file: int) -> None:
    """An open file's, or a folder's; closes it."""
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _answer_in(path: Path) -> Answer | None:
    named = _FILE_NAME.fullmatch(path.name)
    if named is None:
        return None
    digest = Digest(named[3])
    try:
        whole = sha256_of(path) == digest
    except OSError:
        # An SD card that is dying. The other answers need not wait for it.
        return None
    if not whole:
        return None
    return Answer(RunId(named[1]), RoundId(int(named[2])), digest, path.stat().st_size)


def files(folder: Path, ending: str) -> list[Path]:
    """By name. Raises OSError where the folder cannot be read: `glob` would find it empty."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending))


def sweep(folder: Path) -> list[str]:
    """Remove what a crash left half written there; says what could not be removed, and why.

    Raises OSError where the folder cannot be read.
    """
    stuck: list[str] = []
    for leftover in files(folder, ".part"):
        try:
            leftover.unlink()
        except OSError as bad:
            stuck.append(f"{leftover}: {bad.strerror}")
    return stuck


def sha256_of(path: Path) -> Digest:
    """Of a file, in pieces: the agent never holds a model or an answer in memory."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
    return Digest(hasher.hexdigest())

"""What a client keeps from one round for the next, committed only when its answer has counted.

    <folder>/<run>.memory                       as of the answer that was counted last
    <folder>/<run>-<round>-<digest>.pending     what it is to be once the answer of this digest is

    trainer   pending, forced to the disk ──▶ its answer, in the outbox
    agent     accepted ──▶ pending takes the place of what was committed, by one rename
              refused, or the answer is lost ──▶ pending is removed

Nobody trains while an answer of the run with something pending is owed (`session.owes_memory`). The
next one could begin neither with what is committed, which would send again what the first has sent,
nor with what is pending, which would lose what the first has sent should it be refused.

So a loss of power at any moment leaves what was committed before or after, and what the coordinator
has counted decides which: a receipt is repeated for as long as the answer lies in the outbox.

    file:  SHA-256 of the rest, 32 bytes | length of the header, 4 | header | arrays, one by one

Nothing here needs numpy: to the agent a memory is a file. `remembered.py` reads it.
"""

import logging
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge_client.outbox import files, force_to_disk
from edge_client.session import Answer
from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import HASH_BYTES, Torn
from fedmqtt.topics import Digest, RoundId, RunId

_PENDING = re.compile(r"(.+)-(0|[1-9][0-9]{0,9})-([0-9a-f]{64})\.pending")
_HEADER_BYTES_MAX = 1024 * 1024

_log = logging.getLogger("client.memory")


class Header(Struct, frozen=True, kw_only=True):
    """What is in a memory file before its arrays."""

    run: RunId
    round: RoundId
    """Whose answer was counted last."""
    lost: bool = False
    """What was counted up to there is not known here any more; arrays and facts are none."""
    facts: dict[str, float] = {}
    arrays: tuple[tuple[str, str, Annotated[int, Meta(ge=0, le=2**40)]], ...] = ()
    """Name, type as numpy spells it, and how many numbers, in the order of the file."""


class Damaged(ValueError):
    """A file that is not as it was written, or not one of ours; says which."""


def settled(
    answer: RoundId,
    accepted: bool,
    counted: RoundId | None,
    committed: RoundId,
    pending: Collection[RoundId],
) -> tuple[RoundId | None, bool]:
    """By a receipt: the round whose pending memory is to be committed; whether what is committed is
    of no use any more.

    `answer` is the round that the receipt is for, `counted` the one that was counted last as it
    says, `committed` that of what is remembered, 0 where nothing is.
    """
    if counted is None and accepted:
        counted = answer
    if counted is None:
        return None, False
    # Later ones only: who had forgotten that it has answered a round, and answers it again, is told
    # that it counted, and what belongs to this other answer did not.
    if counted in pending and counted > committed:
        return counted, False
    # An answer that is older than what is remembered tells nothing of that.
    return None, not accepted and answer > committed and counted != committed


class DeviceMemory:
    """Raises OSError when the disk does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def committed(self, run: RunId) -> Path:
        """Where what is remembered lies, if anything is."""
        return self.folder / f"{run}.memory"

    def keep(self, answer: Answer, header: Header, arrays: Sequence[bytes | memoryview]) -> None:
        """To be committed when this answer is accepted; on the disk when this returns."""
        self._write(self._path(answer), header, arrays)

    def has(self, answer: Answer) -> bool:
        """Whether something is to be remembered once this answer is accepted."""
        return self._path(answer).exists()

    def settle(self, answer: Answer, accepted: bool, counted: RoundId | None) -> None:
        """The answer has its receipt, which says so."""
        pending = self._pending(answer)
        if pending or counted is not None:
            # Without either there is nothing to change, and nothing needs to be read.
            self._settle(answer, accepted, counted, pending)
        self.drop(answer)

    def drop(self, answer: Answer) -> None:
        """The answer will never be counted."""
        self._path(answer).unlink(missing_ok=True)

    def sweep(self, answers: Iterable[Answer]) -> list[str]:
        """At the start: remove what belongs to no answer of these, which are all there are.

        Says what could not be removed, and why. Raises OSError where the folder cannot be read.
        """
        owed = {self._path(answer) for answer in answers}
        stuck: list[str] = []
        for path in (*files(self.folder, ".pending"), *files(self.folder, ".part")):
            if path not in owed:
                try:
                    path.unlink()
                except OSError as bad:
                    stuck.append(f"{path}: {bad.strerror}")
        return stuck

    def _settle(
        self,
        answer: Answer,
        accepted: bool,
        counted: RoundId | None,
        pending: dict[RoundId, Path | None],
    ) -> None:
        before = self.committed(answer.run)
        commit, is_lost = settled(answer.round, accepted, counted, _round_in(before), pending)
        path = pending.get(commit) if commit is not None else None
        if path is not None:
            path.replace(before)
        elif is_lost and counted:
            self._write(before, Header(run=answer.run, round=counted, lost=True), ())
        elif is_lost:
            before.unlink(missing_ok=True)
        if path is None and not is_lost:
            # Where there is doubt, the answer is owed still, and its own receipt will tell.
            return
        for other in files(self.folder, ".memory"):
            if other != before:
                # Of a run that is over.
                other.unlink()
        force_to_disk(os.open(self.folder, os.O_RDONLY))

    def _write(self, path: Path, header: Header, arrays: Sequence[bytes | memoryview]) -> None:
        encoded = msgspec.msgpack.encode(header)
        checked_file.write(path, (len(encoded).to_bytes(4), encoded, *arrays))
        force_to_disk(os.open(self.folder, os.O_RDONLY))

    def _pending(self, answer: Answer) -> dict[RoundId, Path | None]:
        """Of each round what may be committed; None where there is doubt what that is."""
        found: dict[RoundId, list[Path]] = {}
        for path in files(self.folder, ".pending"):
            name = _PENDING.fullmatch(path.name)
            if name and name[1] == answer.run:
                found.setdefault(RoundId(int(name[2])), []).append(path)
        own = self._path(answer)
        # A trainer that died before its answer was there has left one that belongs to none.
        sure = {number: paths[0] if len(paths) == 1 else None for number, paths in found.items()}
        return sure | ({answer.round: own} if own in found.get(answer.round, ()) else {})

    def _path(self, answer: Answer) -> Path:
        digest: Digest = answer.digest
        return self.folder / f"{answer.run}-{answer.round}-{digest}.pending"


def read(path: Path) -> tuple[Header, memoryview]:
    """Its header and the bytes of its arrays, one after the other. Raises Damaged and OSError."""
    try:
        written = checked_file.read(path)
    except Torn as bad:
        raise Damaged(str(bad)) from bad
    header, start = _header(path, written)
    return header, written[start:]


def _header(path: Path, beginning: memoryview) -> tuple[Header, int]:
    """And where it ends."""
    end = 4 + int.from_bytes(beginning[:4])
    try:
        return msgspec.msgpack.decode(beginning[4:end], type=Header), end
    except unreadable.MESSAGE as bad:
        raise Damaged(f"{path}: {bad}") from bad


def _round_in(path: Path) -> RoundId:
    """0 where nothing is remembered, or nothing that can be read."""
    try:
        with path.open("rb") as file:
            header, _ = _header(path, memoryview(file.read(_HEADER_BYTES_MAX))[HASH_BYTES:])
    except FileNotFoundError:
        return RoundId(0)
    except Damaged as bad:
        _log.warning("%s; it is taken for nothing", bad)
        return RoundId(0)
    return header.round

"""What was on the lists of a key that opens several: no answer is on two of them.

<folder>/<key's number>    behind its SHA-256, and made anew with each list: 34 bytes an answer,
                           and 1.5 ms for 2,000 of them, 15 ms for 100,000

An answer is known by its client's half of the exchange, which is fresh in each, and without which
nothing that it sealed opens.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import Torn
from fedmqtt.masking import attested
from fedmqtt.messages import Key32, Open, Run
from keyholder.round_keys import force

ANSWERS_MAX = 2**20
"""On all lists of one key: they are held in memory."""


class Taken(Struct, frozen=True, kw_only=True):
    """By the lists of one key."""

    run: Run
    masking: Key32
    """Digest: one key is for one."""
    newest: Key32
    """Digest of the list that was written down last."""
    lists: Annotated[int, Meta(ge=1)]
    answers: frozenset[Key32]


_decoder = msgspec.msgpack.Decoder(Taken)


def by(asked: Open, before: Taken | None) -> Taken:
    """By this list too; that is not counted twice."""
    if before is not None and before.newest == asked.digest:
        return before
    answers = frozenset(entry.masked.exchange for entry in asked.entries)
    if before is not None:
        return structs.replace(
            before,
            newest=asked.digest,
            lists=before.lists + 1,
            answers=before.answers | answers,
        )
    return Taken(
        run=asked.run,
        masking=attested.masking_digest(asked.masking),
        newest=asked.digest,
        lists=1,
        answers=answers,
    )


def why_not(asked: Open, number: int, before: Taken) -> str:
    """Why this list may not be opened with key `number`, in a sentence; empty where it may be."""
    if before.newest == asked.digest:
        return ""
    if (before.run, before.masking) != (asked.run, attested.masking_digest(asked.masking)):
        return f"key {number} is for answers of run {before.run} that are masked otherwise"
    if before.lists >= asked.masking.lists_max:
        return f"key {number} was for {before.lists} lists, and is for no more"
    if len(before.answers) + len(asked.entries) > ANSWERS_MAX:
        return f"key {number} is for no more than {ANSWERS_MAX} answers"
    for entry in asked.entries:
        if entry.masked.exchange in before.answers:
            # Not unfit: it did nothing wrong, and the coordinator asks for what it may not have.
            return (
                f"the answer of {entry.client} was on another list of key {number}: what two sums"
                " with it differ by could be its own"
            )
    return ""


class TakenFiles:
    """Raises OSError, as all here do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: dict[int, Path] = {}
        """By number of their key: what was on its lists is not known any more."""
        self.of_keys: dict[int, Taken] = {}
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if not path.name.isdecimal():
                # Half written when a crash came.
                path.unlink()
            elif (taken := _read(path)) is None:
                self.damaged[int(path.name)] = path
            else:
                self.of_keys[int(path.name)] = taken

    def write(self, number: int, taken: Taken) -> None:
        """On the disk when this returns."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700)
            force(self._folder.parent)
        checked_file.write(self._folder / str(number), [msgspec.msgpack.encode(taken)])
        force(self._folder)
        self.of_keys[number] = taken

    def keep(self, numbers: set[int]) -> None:
        """Forget all others: their keys are gone."""
        for number in [*self.of_keys.keys() - numbers, *self.damaged.keys() - numbers]:
            (self._folder / str(number)).unlink(missing_ok=True)
            self.of_keys.pop(number, None)
            self.damaged.pop(number, None)


def _read(path: Path) -> Taken | None:
    try:
        return _decoder.decode(checked_file.read(path))
    except (Torn, *unreadable.MESSAGE):
        return None

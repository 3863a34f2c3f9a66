"""The list of answers of which a sum is opened: its digest, and its way to keyholders in parts.

The digest is of everything that decides the sum, and of nothing that differs from one keyholder to
the next: neither of the seeds that one is asked for nor of how the list was cut, nor of whether it
is only to be looked at.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import repeat

from msgspec import msgpack, structs, to_builtins

from fedmqtt.masking.sealing import fields
from fedmqtt.messages import Answered, Entry, Open

_NO_DIGEST = bytes(32)
_encoder = msgpack.Encoder()


class NotAList(ValueError):
    """Parts that are of no list, or not of the one that they say; a sentence."""


def digest(whole: Open) -> bytes:
    """SHA-256 of a list, all of whose entries are in `whole`."""
    head = structs.replace(
        whole, digest=_NO_DIGEST, part=0, parts=1, entries=(), seeds=(), looks=False
    )
    said = to_builtins(head, builtin_types=(bytes,))
    if not whole.answered:
        # So that programs that know nothing of it come to the same.
        del said["answered"]
    hashed = hashlib.sha256(fields(_encoder.encode(said)))
    for entry in whole.entries:
        hashed.update(fields(_encoder.encode(entry)))
    return hashed.digest()


def answered(whole: Open) -> Iterator[Answered]:
    """For each of as many entries as it says, in their order, what it answers."""
    for one in whole.answered or (Answered(whole.round, whole.base, len(whole.entries)),):
        yield from repeat(one, one.count)


def parts(whole: Open, bytes_max: int) -> list[Open]:
    """The same list in messages of at most so many bytes, its digest in each; one at least.

    Raises ValueError where a message with one entry is longer than that.
    """
    named = structs.replace(whole, digest=digest(whole))
    # Of what grows with the number of entries and parts: a few bytes each.
    room = bytes_max - len(_encoder.encode(structs.replace(named, entries=()))) - 16
    groups: list[list[Entry]] = [[]]
    left = room
    for entry in whole.entries:
        size = len(_encoder.encode(entry))
        if size > room:
            raise ValueError(f"a part of a list does not fit {bytes_max} bytes")
        if size > left:
            groups.append([])
            left = room
        groups[-1].append(entry)
        left -= size
    return [
        structs.replace(named, part=number, parts=len(groups), entries=tuple(group))
        for number, group in enumerate(groups)
    ]


class Joining:
    """Parts of one list after another, in any order and with repeats, to the whole of it.

    What is incomplete is forgotten when a part of another list comes.
    """

    def __init__(self, entries_max: int) -> None:
        """No list may have more entries."""
        self._entries_max = entries_max
        self._head: Open | None = None
        self._came: dict[int, tuple[Entry, ...]] = {}

    def take(self, part: Open) -> Open | None:
        """The whole list once this was the last part that it lacked. Raises NotAList."""
        if part.part >= part.parts:
            raise NotAList(f"part {part.part} of a list of {part.parts} parts")
        head = structs.replace(part, part=0, entries=())
        if head != self._head:
            self._head, self._came = head, {}
        self._came[part.part] = part.entries
        if sum(map(len, self._came.values())) > self._entries_max:
            self._forget()
            raise NotAList(f"a list of more than {self._entries_max} answers")
        if len(self._came) < part.parts:
            return None
        entries = _joined([self._came[number] for number in range(part.parts)])
        self._forget()
        whole = structs.replace(part, part=0, parts=1, entries=entries)
        if digest(whole) != part.digest:
            raise NotAList("a list that is not the one of its digest")
        return whole

    def _forget(self) -> None:
        self._head, self._came = None, {}


def _joined(groups: Sequence[tuple[Entry, ...]]) -> tuple[Entry, ...]:
    return tuple(entry for group in groups for entry in group)

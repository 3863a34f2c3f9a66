"""What a keyholder must not forget, on disk before anybody hears of it.

    <folder>/book             which numbers were given to keys, which list each was used for
            /keys/17.key      a private half: see round_keys.py
            /sums/17-0af3...  the packed sums of all seeds that are held, one after the other
            /taken/17         whose answers were on its lists, of a key for several: see taken.py
            /participations/  in how many sums of a run each device was: see participations.py

A number is written down before its key is made, and a list before anything of it is added up; so
whenever the power goes, no number comes twice, and no key is used for two lists, or two that have
an answer in common.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import Torn
from keyholder.listed import LISTS_KEPT, Listed
from keyholder.participations import Participations
from keyholder.round_keys import RoundKeys, force
from keyholder.taken import Taken, TakenFiles

KEYS_MAX = 256
"""Rounds that were offered and never opened leave theirs here: no more than so many."""
_SUMS_KEPT = 4
"""Newest lists that can be answered again."""


class BookError(Exception):
    """The folder cannot be gone on with; says which file, why, and what to do."""


class _Page(Struct, frozen=True, kw_only=True):
    federation: str
    name: str
    made: Annotated[int, Meta(ge=0)] = 0
    """The highest number that was given to a key."""
    lists: tuple[Listed, ...] = ()


_decoder = msgspec.msgpack.Decoder(_Page)


class Book:
    """Raises BookError, when it is opened, and OSError."""

    def __init__(
        self, folder: Path, federation: str, name: str, clock: Callable[[], float]
    ) -> None:
        """`clock`: seconds, of the clock that files are dated by."""
        self._folder = folder
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        found = _read(folder / "book", federation, name)
        self._page = found or _Page(federation=federation, name=name)
        self.keys = RoundKeys(folder / "keys")
        self.participations = Participations(folder / "participations")
        if found is None:
            # What they were used for is not known.
            self.keys.delete([*self.keys.publics])
        self._taken = TakenFiles(folder / "taken")
        self._delete_lost()
        self._sums.mkdir(mode=0o700, exist_ok=True)
        # What a crash came between.
        self._delete_used()
        self._sweep()

    @property
    def lists(self) -> dict[int, Listed]:
        return {one.number: one for one in self._page.lists}

    @property
    def taken(self) -> dict[int, Taken]:
        """By number of the key, of those that may open more lists."""
        return dict(self._taken.of_keys)

    def sums_of(self, number: int, digest: bytes) -> Path:
        """Of the list with this digest."""
        return self._sums / f"{number}-{digest[:8].hex()}"

    def ahead(self, above: int, fresh_s: float) -> dict[int, bytes]:
        """Public halves by number, growing, of keys with numbers above this that were made within
        so many seconds."""
        then = self._clock() - fresh_s
        return {
            number: public
            for number, public in self.keys.publics.items()
            if number > above and not self.keys.made_before(number, then)
        }

    def make_ahead(self, above: int, count: int, fresh_s: float) -> bool:
        """See to it that there are so many such keys; whether some had to be made."""
        lacking = count - len(self.ahead(above, fresh_s))
        if lacking <= 0:
            return False
        # By the clock, where that is ahead: a folder that was lost, or put back to an older copy,
        # must not make numbers again that were used.
        first = max(self._page.made + 1, int(self._clock()))
        numbers = range(first, first + lacking)
        self._write(structs.replace(self._page, made=numbers[-1]))
        for number in numbers:
            self.keys.make(number)
        self.keys.delete([*self.keys.publics][:-KEYS_MAX])
        return True

    def write_down(self, listed: Listed, taken: Taken | None = None) -> None:
        """On the disk when this returns, in the place of what was there for this key; and what its
        lists have taken, where there is anything new."""
        if taken is not None:
            # First: a list that is known to no more than this is checked again, and one that is
            # known to the book alone would leave its answers free for another.
            self._taken.write(listed.number, taken)
        others = [one for one in self._page.lists if one.number != listed.number]
        lists = sorted([*others, listed], key=lambda one: one.number)
        self._write(structs.replace(self._page, lists=tuple(lists[-LISTS_KEPT:])))

    def finish(self, listed: Listed) -> None:
        """Write down that its sums are there, and delete what could open another list."""
        self.write_down(listed)
        self._delete_used()
        self._sweep()

    def drop_older(self, seconds: float) -> bool:
        """Delete keys and sums that are older; whether there were any."""
        then = self._clock() - seconds
        keys = [number for number in self.keys.publics if self.keys.made_before(number, then)]
        self.keys.delete(keys)
        sums = [path for path in self._sums.iterdir() if path.stat().st_mtime < then]
        for path in sums:
            path.unlink()
        self._taken.keep({*self.keys.publics})
        return bool(keys or sums)

    @property
    def _sums(self) -> Path:
        return self._folder / "sums"

    def _delete_lost(self) -> None:
        """Keys that may open more lists, of which it is not known any more what was on them."""
        several = {one.number for one in self._page.lists if one.opens_more}
        lost = (several - self._taken.of_keys.keys()) | self._taken.damaged.keys()
        gone = sorted(lost & self.keys.publics.keys())
        self.keys.damaged += [self._folder / "taken" / str(number) for number in gone]
        self.keys.delete(gone)

    def _delete_used(self) -> None:
        used = max(
            (one.number - one.opens_more for one in self._page.lists if one.digests), default=0
        )
        self.keys.delete([number for number in self.keys.publics if number <= used])

    def _sweep(self) -> None:
        lists = [one for one in self._page.lists if one.digests][-_SUMS_KEPT:]
        newest = {self.sums_of(one.number, one.digest) for one in lists}
        for path in self._sums.iterdir():
            if path not in newest:
                path.unlink()
        self._taken.keep({*self.keys.publics})

    def _write(self, page: _Page) -> None:
        checked_file.write(self._folder / "book", [msgspec.msgpack.encode(page)])
        force(self._folder)
        self._page = page


def write_sums(path: Path, sums: Iterable[bytes]) -> tuple[bytes, ...]:
    """Whole or not at all, and on the disk when this returns: SHA-256 of each. Raises OSError."""
    part = path.with_suffix(".part")
    digests: list[bytes] = []
    try:
        with part.open("wb") as file:
            for one in sums:
                file.write(one)
                digests.append(hashlib.sha256(one).digest())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        force(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return tuple(digests)


def _read(path: Path, federation: str, name: str) -> _Page | None:
    try:
        page = _decoder.decode(checked_file.read(path))
    except FileNotFoundError:
        return None
    except (Torn, *unreadable.MESSAGE) as bad:
        # Which keys are used up is not known any more: all of them must be taken to be.
        raise BookError(
            f"{path} is damaged: {bad}; delete the whole folder, and its keys with it, and begin"
            " anew: rounds that are open lose this keyholder, later ones do not"
        ) from bad
    if (page.federation, page.name) != (federation, name):
        raise BookError(
            f"{path} is of {page.name} in federation {page.federation}: give each keyholder a"
            " folder of its own"
        )
    return page

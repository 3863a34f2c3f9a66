"""In how many sums of a run each device was, where there is a most, or noise that adds up: on disk
before one is opened.

By device's key: a name may be given anew, and a key is what a device attests with. A list counts
once, however often it is asked about. Counts only grow, and no run is forgotten: a device that came
back as unknown would be in more sums than it was promised.

How many are the most, each list says, and a run keeps to the fewest that one has said: devices
signed their answers for that promise.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import Torn
from fedmqtt.messages import Key32, Open
from fedmqtt.topics import ClientId
from keyholder.round_keys import force


class _Page(Struct, frozen=True, kw_only=True):
    lists: frozenset[Key32] = frozenset()
    """Digests of those that are counted."""
    counts: dict[Key32, Annotated[int, Meta(ge=1)]] = field(default_factory=dict)
    """By public key of a device."""
    most: Annotated[int, Meta(ge=0)] = 0
    """The fewest that any list said; 0: none has."""


_decoder = msgspec.msgpack.Decoder(_Page)


class NotCounted(Exception):
    """It is not known any more who was in how many sums, or more than was promised are asked for;
    a sentence."""


class Participations:
    """A file for each run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def spent(self, asked: Open) -> dict[ClientId, str]:
        """Of a list that is not counted yet, who was in as many sums as it may be: of each a
        sentence that names it. Raises OSError and NotCounted."""
        page = self._page(asked)
        if asked.digest in page.lists:
            return {}
        most = asked.masking.participations_max
        if page.most and not 1 <= most <= page.most:
            raise NotCounted(
                f"devices are in no more than {page.most} sums of run {asked.run}, as was promised"
                f" before, and this list says {most or 'any number'}"
            )
        return {
            entry.client: f"{entry.client} was in {count} sums of run {asked.run}, and may be in no"
            f" more than {most}"
            for entry in asked.entries
            if most and (count := page.counts.get(entry.key, 0)) >= most
        }

    def count(self, asked: Open) -> None:
        """A list that is about to be opened: on the disk when this returns. Raises OSError and
        NotCounted."""
        most, page = asked.masking.participations_max, self._page(asked)
        if not (most or asked.masking.noise) or asked.digest in page.lists:
            return
        keys = [entry.key for entry in asked.entries]
        counted = {key: page.counts.get(key, 0) + 1 for key in keys}
        page = _Page(
            lists=page.lists | {asked.digest},
            counts=page.counts | counted,
            most=min(filter(None, (most, page.most)), default=0),
        )
        self._folder.mkdir(mode=0o700, exist_ok=True)
        checked_file.write(self._path(asked), [msgspec.msgpack.encode(page)])
        force(self._folder)

    def _page(self, asked: Open) -> _Page:
        try:
            return _decoder.decode(checked_file.read(self._path(asked)))
        except FileNotFoundError:
            return _Page()
        except (Torn, *unreadable.MESSAGE) as bad:
            raise NotCounted(
                f"how often devices were in sums of run {asked.run} is not known: {bad}"
            ) from bad

    def _path(self, asked: Open) -> Path:
        return self._folder / hashlib.sha256(asked.run.encode()).hexdigest()[:32]

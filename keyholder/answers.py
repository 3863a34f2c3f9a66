"""A keyholder's answer, made of its sums on disk: the same bytes whenever it is made."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fedmqtt import messages
from fedmqtt.messages import Opened
from fedmqtt.topics import Digest
from keyholder.listed import Listed
from keyholder.sending import Sums

_READ_BYTES = 1024 * 1024


class SumsLost(Exception):
    """They are not there any more, or not as they were; a sentence."""


@dataclass(frozen=True, slots=True)
class Spread:
    """An encoded `Opened`: its head, and stretches of a file behind it."""

    sums: Sums
    head: bytes
    path: Path
    starts: tuple[int, ...]
    """In the file, where each sum begins that is sent."""
    each_bytes: int

    def piece(self, start: int, stop: int) -> bytes:
        """Raises OSError and SumsLost."""
        pieces = [self.head[start:stop]]
        with self.path.open("rb") as file:
            for number, at in enumerate(self.starts):
                begins = len(self.head) + number * self.each_bytes
                first, last = max(start, begins), min(stop, begins + self.each_bytes)
                if first < last:
                    file.seek(at + first - begins)
                    pieces.append(file.read(last - first))
        whole = b"".join(pieces)
        if len(whole) != stop - start:
            raise SumsLost(f"{self.path} is shorter than it was")
        return whole


def spread(listed: Listed, path: Path) -> Spread:
    """The answer to who asked for `listed.seeds`. Raises SumsLost."""
    try:
        return _spread(listed, path)
    except OSError as bad:
        raise SumsLost(f"the sums of round {listed.round} are not kept any more") from bad


def _spread(listed: Listed, path: Path) -> Spread:
    each = path.stat().st_size // len(listed.held)
    starts = tuple(listed.held.index(seed) * each for seed in listed.seeds)
    opened = Opened(
        run=listed.run,
        round=listed.round,
        digest=listed.digest,
        seeds=listed.seeds,
        digests=listed.digests,
    )
    head = messages.encode_head(opened, len(starts) * each)
    hasher = hashlib.sha256(head)
    with path.open("rb") as file:
        for seed, start in zip(listed.seeds, starts, strict=True):
            file.seek(start)
            own, left = hashlib.sha256(), each
            while left and (data := file.read(min(left, _READ_BYTES))):
                hasher.update(data)
                own.update(data)
                left -= len(data)
            if own.digest() != listed.digests[listed.held.index(seed)]:
                raise SumsLost(f"{path} is not what was written")
    size = len(head) + len(starts) * each
    sums = Sums(listed.run, listed.round, Digest(hasher.hexdigest()), size)
    return Spread(sums, head, path, starts, each)

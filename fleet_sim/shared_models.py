"""One copy on disk of each model that a swarm's clients fetched.

Every client fetches for itself, as a device does; then its file becomes a second name of the first
one's. A device keeps its newest model, whenever that was; here the files of the last few models are
kept and older ones removed, or the disk would fill with a model of each round.
"""

import os
from contextlib import suppress
from pathlib import Path

from fedmqtt.topics import Digest

MODELS_KEPT = 4


class SharedModels:
    def __init__(self, kept: int = MODELS_KEPT) -> None:
        self._kept = kept
        self._held: dict[Digest, dict[Path, None]] = {}
        """Who holds which model, oldest model first."""

    def share(self, digest: Digest, path: Path) -> None:
        """A client's file, whole, holds this model."""
        holders = self._held.pop(digest, {})
        # Newest last.
        self._held[digest] = holders
        if holders and path not in holders:
            # Where that fails this file is a new copy, and the next client's will be linked to it.
            _link(next(reversed(holders)), path)
        holders[path] = None
        while len(self._held) > self._kept:
            for old in self._held.pop(next(iter(self._held))):
                # Its client may have replaced it by a newer one.
                old.unlink(missing_ok=True)


def _link(source: Path, path: Path) -> None:
    spare = path.with_suffix(".link")
    # The source's client may have moved on; and a file has so many names at most.
    with suppress(OSError):
        os.link(source, spare)
        spare.replace(path)

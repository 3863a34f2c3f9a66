"""The rounds that a device is done with, on disk: to be trained in no more, whoever offers them.

A signature does not grow old. Whoever has the broker may show an offer again that was signed long
ago, to a device that has been started since and knows of none. So it is kept for each run which
round had its receipt last; an offer of that round, or of one before it, is for others.
"""

import logging
from pathlib import Path

import msgspec

from fedmqtt import checked_file, unreadable
from fedmqtt.checked_file import Torn
from fedmqtt.topics import RoundId, RunId

_log = logging.getLogger("client.rounds")

_RUNS_MAX = 100
"""The newest. Only who has the federation's key can begin one."""


class RoundsDone:
    """In one file. Raises OSError; what is damaged is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest: dict[RunId, RoundId] = {}
        if path.exists():
            try:
                kept = checked_file.read(path)
                self._newest = msgspec.json.decode(kept, type=dict[RunId, RoundId])
            except (Torn, *unreadable.MESSAGE) as bad:
                # Its loss costs a round that is trained in for nothing.
                _log.warning("rounds that were done are begun anew: %s: %s", path, bad)
                path.unlink()

    def includes(self, run: RunId, number: RoundId) -> bool:
        return number <= self._newest.get(run, -1)

    def add(self, run: RunId, number: RoundId) -> None:
        if self.includes(run, number):
            return
        # At the end: the oldest go first.
        self._newest.pop(run, None)
        self._newest[run] = number
        self._newest = dict(list(self._newest.items())[-_RUNS_MAX:])
        checked_file.write(self._path, [msgspec.json.encode(self._newest)])

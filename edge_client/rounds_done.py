"""The rounds that a device is done with, on disk: to be trained in no more, whoever offers them.

A signature does not grow old. Whoever has the broker may show an offer again that was signed long
ago, to a device that has been started since and knows of none. So it is kept for each run which
round had its receipt last; an offer of that round, or of one before it, is for others.
"""

from pathlib import Path

import msgspec

from fedmqtt import unreadable
from fedmqtt.topics import RoundId, RunId

_RUNS_MAX = 100
"""The newest. Only who has the federation's key can begin one."""


class RoundsDone:
    """In one file. Raises OSError; what is damaged is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest: dict[RunId, RoundId] = {}
        if path.exists():
            try:
                self._newest = msgspec.json.decode(path.read_bytes(), type=dict[RunId, RoundId])
            except unreadable.MESSAGE:
                # Its loss costs a round that is trained in for nothing.
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
        part = self._path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(self._newest))
        part.replace(self._path)

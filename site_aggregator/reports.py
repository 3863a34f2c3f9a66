"""Answers for the centre that are ready, and that the site's own ledger does not vouch for yet.

    <folder>/<run>-<round>@<round of the site>.ready

A site writes what a round came to before its ledger says that the round is over, and hands it to
the agent's outbox after. Killed before, the round is open still, and will come to something else;
killed after, it is handed over at the next start.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edge_client.outbox import force_to_disk
from fedmqtt import checked_file
from fedmqtt.checked_file import Torn
from fedmqtt.messages import Evaluation, Update, encode
from fedmqtt.topics import RoundId, RunId

_NAME = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})-(0|[1-9][0-9]{0,9})@([1-9][0-9]{0,9})\.ready"
)


@dataclass(frozen=True, slots=True)
class Ready:
    """One of them: to which round of the centre's, made by which of the site's."""

    run: RunId
    round: RoundId
    made_by: RoundId
    path: Path

    def is_for(self, run: RunId, number: RoundId) -> bool:
        return (self.run, self.round) == (run, number)


class Reports:
    """Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, answer: Update | Evaluation, made_by: RoundId) -> Ready:
        """In the place of what was ready for the same round."""
        run, number = answer.run, answer.round
        path = self._folder / f"{run}-{number}@{made_by}.ready"
        checked_file.write(path, [encode(answer)])
        force_to_disk(_opened(self._folder))
        ready = Ready(run, number, made_by, path)
        for other in self.all():
            if other.is_for(run, number) and other.made_by < made_by:
                other.path.unlink()
        return ready

    def all(self) -> list[Ready]:
        """By the rounds that made them."""
        found = [
            Ready(RunId(named[1]), RoundId(int(named[2])), RoundId(int(named[3])), path)
            for path in self._folder.iterdir()
            if (named := _NAME.fullmatch(path.name)) is not None
        ]
        return sorted(found, key=lambda one: one.made_by)

    def read(self, ready: Ready) -> memoryview | None:
        """The encoded answer; None where the disk has lost it."""
        try:
            return checked_file.read(ready.path)
        except Torn:
            return None

    def drop(self, ready: Ready) -> None:
        ready.path.unlink(missing_ok=True)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY)

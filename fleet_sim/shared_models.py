"""One copy on disk of each model that a swarm's clients fetched.

Every client fetches for itself, as a device does; then its file becomes a second name of the first
one's. A device keeps its newest model, whenever that was; here the files of the last few models are
kept and older ones removed, or the disk would fill with a model of each round. One that a job is
to read stays until that has ended: a few processes do what would be done on as many devices, so a
job may wait here for longer than a few models last.
"""

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from edge_client.agent import Trainers
from edge_client.trainer_pool import Report, Ticket
from edge_client.training_job import FromTrainer, Job, Progress, Rebuild
from fedmqtt.topics import Digest

MODELS_KEPT = 4


class SharedModels:
    def __init__(self, kept: int = MODELS_KEPT) -> None:
        self._kept = kept
        self._held: dict[Digest, dict[Path, None]] = {}
        """Who holds which model, oldest model first."""
        self._in_use: Counter[Path] = Counter()
        """What jobs are to read."""

    def share(self, digest: Digest, path: Path) -> None:
        """A client's file, whole, holds this model."""
        holders = self._held.pop(digest, {})
        # Newest last.
        self._held[digest] = holders
        if holders and path not in holders:
            # Where that fails this file is a new copy, and the next client's will be linked to it.
            _link(next(reversed(holders)), path)
        holders[path] = None
        for old in list(self._held)[: -self._kept]:
            self._remove(old)

    def begin(self, path: Path) -> None:
        """A job is to read this file."""
        self._in_use[path] += 1

    def end(self, path: Path) -> None:
        """One that was to read it has ended."""
        self._in_use[path] -= 1
        if not self._in_use[path]:
            del self._in_use[path]

    def _remove(self, digest: Digest) -> None:
        holders = self._held[digest]
        for path in [path for path in holders if path not in self._in_use]:
            del holders[path]
            # Its client may have replaced it by a newer one.
            path.unlink(missing_ok=True)
        if not holders:
            del self._held[digest]


class KeepingTrainers:
    """Trainers whose jobs find the models that they were given, however long they wait."""

    def __init__(self, models: SharedModels, trainers: Trainers) -> None:
        self._models = models
        self._trainers = trainers
        self._reads: dict[Ticket, Path] = {}

    def submit(self, job: Job | Rebuild, report: Report) -> Ticket:
        path = Path(job.base_path if isinstance(job, Rebuild) else job.model_path)
        self._models.begin(path)

        def heard(said: FromTrainer) -> None:
            if not isinstance(said, Progress):
                self._end(ticket)
            report(said)

        ticket = self._trainers.submit(job, heard)
        self._reads[ticket] = path
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        self._end(ticket)
        self._trainers.cancel(ticket)

    def _end(self, ticket: Ticket) -> None:
        # What has ended may be cancelled still, and be cancelled twice.
        if (path := self._reads.pop(ticket, None)) is not None:
            self._models.end(path)


def _link(source: Path, path: Path) -> None:
    spare = path.with_suffix(".link")
    # The source's client may have moved on; and a file has so many names at most.
    with suppress(OSError):
        os.link(source, spare)
        spare.replace(path)

"""What the centre asked last, on disk: a site that starts with its line cut goes on with it.

<folder>/job     the Job, without its mask: who asked for it masked asks anew
<folder>/base    the model's file
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import structs

from edge_client.training_job import Job
from fedmqtt import checked_file, unreadable, weights
from fedmqtt.checked_file import Torn
from fedmqtt.weights import Array, Layout, WeightsError


@dataclass(frozen=True, slots=True)
class Asked:
    """A round of the centre's, and the model that it starts from."""

    job: Job
    layout: Layout
    base: Array


class KeptJob:
    """Raises OSError."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._job, self._base = folder / "job", folder / "base"

    def keep(self, asked: Asked) -> None:
        # The model first: a job without it is none.
        checked_file.write(self._base, [weights.write(asked.layout, asked.base)])
        kept = structs.replace(asked.job, mask=None)
        checked_file.write(self._job, [msgspec.msgpack.encode(kept)])

    def read(self) -> Asked | None:
        """None where nothing was asked yet, or it cannot be told what."""
        try:
            job = msgspec.msgpack.decode(checked_file.read(self._job), type=Job)
            file = checked_file.read(self._base)
            if weights.digest(file) != job.base:
                # Killed in between.
                return None
            return Asked(job, *weights.read(file))
        except (FileNotFoundError, Torn, WeightsError, *unreadable.MESSAGE):
            return None

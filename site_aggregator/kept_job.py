"""What the centre asked last, on disk: a site that starts with its line cut goes on with it.

<folder>/job     the Job, without the key by which a masked answer is signed
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
        job = asked.job
        if job.mask is not None:
            job = structs.replace(job, mask=structs.replace(job.mask, signing_key=""))
        checked_file.write(self._job, [msgspec.msgpack.encode(job)])

    def read(self, signing_key: str = "") -> Asked | None:
        """None where nothing was asked yet, or it cannot be told what. `signing_key`: the site's
        own, by which an answer is signed where it is to be masked."""
        try:
            job = msgspec.msgpack.decode(checked_file.read(self._job), type=Job)
            file = checked_file.read(self._base)
            if weights.digest(file) != job.base:
                # Killed in between.
                return None
            if job.mask is not None:
                mask = structs.replace(job.mask, signing_key=signing_key)
                job = structs.replace(job, mask=mask if signing_key else None)
            return Asked(job, *weights.read(file))
        except (FileNotFoundError, Torn, WeightsError, *unreadable.MESSAGE):
            return None

"""The layers of the model that stay on this device: one file for a run, for as long as it lasts.

    <folder>/<run>.personal      SHA-256 of the rest, 32 bytes | a model file of those layers alone

They are this device's own, so they are kept when training is finished, whatever becomes of the
answer. A file that is torn, or of another model, is taken for none: the device begins with the
layers of the published model again.
"""

import hashlib
import logging
import os
from pathlib import Path

from edge_client.outbox import files
from fedmqtt import weights
from fedmqtt.personal import Division
from fedmqtt.topics import RunId
from fedmqtt.weights import Array, WeightsError

_ENDING = ".personal"
_HASH_BYTES = 32

_log = logging.getLogger("client.personal")


def read(folder: Path, run: RunId, division: Division) -> Array | None:
    """Shape (division.personal.size,); None where there are none yet. Raises OSError."""
    path = folder / f"{run}{_ENDING}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    kept = memoryview(data)[_HASH_BYTES:]
    if hashlib.sha256(kept).digest() != data[:_HASH_BYTES]:
        _log.warning("%s is not as it was written; its layers begin anew", path)
        return None
    try:
        layout, flat = weights.read(kept)
    except WeightsError as bad:
        _log.warning("%s: %s; its layers begin anew", path, bad)
        return None
    if layout != division.personal:
        _log.warning("%s has other layers than were asked for; they begin anew", path)
        return None
    return flat


def keep(folder: Path, run: RunId, division: Division, flat: Array) -> None:
    """These take the place of what was there, also of other runs. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    data = weights.write(division.personal, flat)
    path = folder / f"{run}{_ENDING}"
    part = folder / f"{path.name}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            file.write(hashlib.sha256(data).digest())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for other in files(folder, _ENDING):
        if other != path:
            # Of a run that is over.
            other.unlink(missing_ok=True)

"""The layers of the model that stay on this device: one file for a run, for as long as it lasts.

    <folder>/<run>.personal      SHA-256 of the rest, 32 bytes | a model file of those layers alone

They are this device's own, so they are kept when training is finished, whatever becomes of the
answer. A file that is torn, or of another model, is taken for none: the device begins with the
layers of the published model again. So does who trains in another run; a device that only measures
a model does so with the newest layers that it has, of whichever run (`read_newest`).
"""

import logging
from pathlib import Path

from edge_client.outbox import files
from fedmqtt import checked_file, weights
from fedmqtt.checked_file import Torn
from fedmqtt.personal import Division
from fedmqtt.topics import RunId
from fedmqtt.weights import Array, WeightsError

_ENDING = ".personal"

_log = logging.getLogger("client.personal")


def read(folder: Path, run: RunId, division: Division) -> Array | None:
    """Shape (division.personal.size,); None where there are none yet. Raises OSError."""
    return _read(_path(folder, run), division)


def read_newest(folder: Path, run: RunId, division: Division) -> Array | None:
    """As `read`, and where this run has none those that were kept last of any other and fit.

    A model that is measured has a run of its own, in which nobody trains. Raises OSError.
    """
    path = _path(folder, run)
    if not folder.is_dir():
        return None
    others = [other for other in files(folder, _ENDING) if other != path]
    newest_first = sorted(others, key=lambda other: other.stat().st_mtime_ns, reverse=True)
    for one in (path, *newest_first):
        if (found := _read(one, division)) is not None:
            return found
    return None


def keep(folder: Path, run: RunId, division: Division, flat: Array) -> None:
    """These take the place of what was there, also of other runs. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, run)
    checked_file.write(path, [weights.write(division.personal, flat)])
    for other in files(folder, _ENDING):
        if other != path:
            # Of a run that is over.
            other.unlink(missing_ok=True)


def _path(folder: Path, run: RunId) -> Path:
    return folder / f"{run}{_ENDING}"


def _read(path: Path, division: Division) -> Array | None:
    try:
        kept = checked_file.read(path)
    except FileNotFoundError:
        return None
    except Torn as bad:
        _log.warning("%s; its layers begin anew", bad)
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

"""The 46 devices of the phone-and-watch task: who they are, and what each of them recorded.

23 people each carried a phone and wore a watch: "phone-01" to "phone-23", "watch-01" to "watch-23".
All recordings come in one archive (CC BY 4.0, see `phonewatch_data/LICENSE.md`);
`python -m learning_tasks.phonewatch_devices split DIR` writes one file per device, as if each had
recorded its own. No torch here: whoever only wants to know the devices need not wait for it.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from learning_tasks.seam import TaskError

CLASS_NAMES = ("seated", "standing up", "walking", "turning", "sitting down")

TRAINING_CLIENTS = tuple(f"{kind}-{n:02}" for kind in ("phone", "watch") for n in range(1, 18))
UNSEEN_CLIENTS = tuple(f"{kind}-{n:02}" for kind in ("phone", "watch") for n in range(18, 24))
CLIENTS = TRAINING_CLIENTS + UNSEEN_CLIENTS

_ARCHIVE = Path(__file__).parent / "phonewatch_data" / "phonewatch_raw.npz"


class Recordings(NamedTuple):
    """What one device, or all of them, recorded: recording i is rows offsets[i]:offsets[i + 1]."""

    acc: NDArray[np.int16]  # (rows, 3), in steps of acc_scale m/s²
    gyro: NDArray[np.int16]  # (rows, 3), in steps of gyro_scale rad/s
    label: NDArray[np.uint8]  # (rows,), position in CLASS_NAMES
    offsets: NDArray[np.int32]  # (recordings + 1,)
    acc_scale: NDArray[np.float64]  # ()
    gyro_scale: NDArray[np.float64]  # ()


def split_by_device(directory: Path) -> None:
    """Write `<client>.npz` into `directory` for each of the 46 devices: its own recordings."""
    directory.mkdir(parents=True, exist_ok=True)
    for client in CLIENTS:
        own = _pick(_archive(), _positions(client))
        np.savez_compressed(directory / f"{client}.npz", **own._asdict())


def recordings_of(data_dir: Path, client: str) -> Recordings:
    """One device's own, from `<data_dir>/<client>.npz`, else from the archive.

    Raises `TaskError` where there is no such device, or its file is no file of recordings.
    """
    path = data_dir / f"{client}.npz"
    if path.is_file():
        return _read(path)
    if client not in CLIENTS:
        raise TaskError(
            f"there is no {path}, and {client} is none of the devices that come with phonewatch: "
            f"{CLIENTS[0]} to phone-23 and watch-01 to {CLIENTS[-1]}"
        )
    return _pick(_archive(), _positions(client))


def _read(path: Path) -> Recordings:
    try:
        with np.load(path, allow_pickle=False) as file:  # noqa: TID251
            return Recordings(**{name: file[name] for name in Recordings._fields})
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise TaskError(
            f"{path} is not a file of phonewatch recordings ({error}): write it with "
            "`python -m learning_tasks.phonewatch_devices split`"
        ) from error


@cache
def _archive() -> Recordings:
    # 7 MB in memory and 0.1 s to unpack, so a process that plays many devices does it once.
    return _read(_ARCHIVE)


def _positions(client: str) -> list[int]:
    """Which recordings of the archive are this device's, in the order they were made."""
    kind, person = client.split("-")
    with np.load(_ARCHIVE, allow_pickle=False) as file:  # noqa: TID251
        own = (file["subject"] == int(person)) & (file["is_watch"] == (kind == "watch"))
    return np.flatnonzero(own).tolist()


def _pick(recordings: Recordings, chosen: Sequence[int]) -> Recordings:
    """Copies of the chosen recordings only."""
    pieces = [slice(*recordings.offsets[i : i + 2]) for i in chosen]
    lengths = [piece.stop - piece.start for piece in pieces]
    return recordings._replace(
        acc=np.concatenate([recordings.acc[piece] for piece in pieces]),
        gyro=np.concatenate([recordings.gyro[piece] for piece in pieces]),
        label=np.concatenate([recordings.label[piece] for piece in pieces]),
        offsets=np.cumsum([0, *lengths], dtype=np.int32),
    )


def main(arguments: Sequence[str]) -> int:
    """`split DIR` writes one file per device."""
    if len(arguments) != 2 or arguments[0] != "split":
        sys.stderr.write("usage: python -m learning_tasks.phonewatch_devices split DIR\n")
        return 2
    split_by_device(Path(arguments[1]))
    sys.stdout.write(f"wrote the recordings of {len(CLIENTS)} devices to {arguments[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

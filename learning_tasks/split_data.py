"""Who holds which samples of a pool: one file, `split.npz`, in a folder.

    pool       0  1  2  3  4  5  6  7  8  9        positions, as `load_pool` orders them
    ann        |-----|     |-----|                 train
                        |--|                       held out: what ann evaluates on
    bob                          |-----|  |--|

Whoever plays a client gives that folder as its data folder; from there on `TorchTask.load_data`
finds the samples by the client's name. One more client is always there: `JUDGE`, who evaluates on
the whole test pool and never trains.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from learning_tasks.seam import TaskError

JUDGE = "judge"
FILE_NAME = "split.npz"

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in the "train" pool by client: no position twice, for no two purposes."""

    data_dir: str
    """Of the pool: what `load_pool` is called with."""
    pool_digest: str
    clients: tuple[str, ...]
    train: tuple[Positions, ...]
    """One array per client, in the order of `clients`; none is empty."""
    held_out: tuple[Positions, ...]
    """Likewise; empty where a client holds nothing back."""
    labels: tuple[str, ...]
    """What the classes are called; empty where the targets are no classes."""
    label_counts: NDArray[np.int64]
    """(clients, labels): how many samples of each class a client holds, held out or not."""
    label_means: NDArray[np.float64]
    """(clients,): the mean of its targets; 0 where each sample has more than one."""
    made_by: str
    """For people: how the split was made, as JSON."""

    @cached_property
    def _row(self) -> dict[str, int]:
        return {client: row for row, client in enumerate(self.clients)}

    def positions(self, client: str, purpose: str) -> Positions:
        """What a client has to train on, or to evaluate on. Raises `TaskError` where it has none.

        Not for the judge, whose samples are in another pool.
        """
        if client not in self._row:
            raise TaskError(
                f"{client} is none of the {len(self.clients)} clients among whom the data was "
                f"split: {self.clients[0]} to {self.clients[-1]}, and {JUDGE} to evaluate"
            )
        found = (self.train if purpose == "train" else self.held_out)[self._row[client]]
        if len(found) == 0:
            raise TaskError(
                f"{client} holds no samples back to {purpose} on: split the data with a larger "
                f"share held out, or let {JUDGE} evaluate"
            )
        return found


def is_split(folder: Path) -> bool:
    return (folder / FILE_NAME).is_file()


def write(split: Split, folder: Path) -> Path:
    """`split.npz` in a folder, which is made if need be; whoever looks finds all of it or nothing.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    unfinished = folder / f"unfinished-{os.getpid()}-{FILE_NAME}"
    np.savez(
        unfinished,
        data_dir=np.array(split.data_dir),
        pool_digest=np.array(split.pool_digest),
        clients=np.array(split.clients),
        train=np.concatenate(split.train),
        train_counts=np.array([len(own) for own in split.train], np.int64),
        held_out=np.concatenate(split.held_out),
        held_out_counts=np.array([len(own) for own in split.held_out], np.int64),
        # Told to be text, because an empty list would be one of numbers.
        labels=np.array(split.labels, np.str_),
        label_counts=split.label_counts,
        label_means=split.label_means,
        made_by=np.array(split.made_by),
    )
    unfinished.replace(path)
    return path


def read(folder: Path) -> Split:
    """The split in a folder. Raises `TaskError` where there is none, or its file is something else.

    Kept by the process until the file changes: a thousand clients in one process read it once.
    """
    path = folder / FILE_NAME
    try:
        stat = path.stat()
    except OSError as error:
        raise TaskError(f"there is no {path}: make one with fleet_sim.split.make_split") from error
    return _read(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@lru_cache(maxsize=2)
def _read(path: Path, _changed_at_ns: int, _size_bytes: int, _inode: int) -> Split:
    try:
        with np.load(path, allow_pickle=False) as file:  # noqa: TID251
            clients = file["clients"].tolist()
            return Split(
                data_dir=str(file["data_dir"]),
                pool_digest=str(file["pool_digest"]),
                clients=tuple(clients),
                train=_cut(file["train"], file["train_counts"], clients),
                held_out=_cut(file["held_out"], file["held_out_counts"], clients),
                labels=tuple(file["labels"].tolist()),
                label_counts=file["label_counts"],
                label_means=file["label_means"],
                made_by=str(file["made_by"]),
            )
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise TaskError(
            f"{path} does not say who holds which samples ({error}): split the data again"
        ) from error


def _cut(
    positions: Positions, counts: NDArray[np.int64], clients: Sequence[str]
) -> tuple[Positions, ...]:
    if len(counts) != len(clients) or counts.sum() != len(positions):
        raise ValueError(
            f"{len(positions)} positions for {len(counts)} counts and {len(clients)} clients"
        )
    return tuple(np.split(positions, np.cumsum(counts)[:-1]))

"""Share a task's pool of samples out among made-up clients, and say who holds what.

    load_pool ─▶ splits/<kind>.py ─▶ positions per client ─▶ a share of each held out ─▶ split.npz

Whoever plays a client then gives the folder of `split.npz` as its data folder, be it the virtual
world or a real agent with a real trainer (`learning_tasks.split_data`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedmqtt import parts
from fedmqtt import settings as settings_reader
from fedmqtt.topics import is_name
from fleet_sim import splits
from fleet_sim.clock import stream
from fleet_sim.splits import Positions, SplitError, owners
from learning_tasks import class_targets, split_data
from learning_tasks.loading import load_task
from learning_tasks.pool import Pool
from learning_tasks.seam import TaskError
from learning_tasks.torch_training import TorchTask

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Holding:
    """What one client holds, held out or not."""

    client: str
    samples: int
    held_out: int
    """How many of them it evaluates on and does not train on."""
    label_counts: dict[str, int]
    """By the name of the class, with zeros; empty where the targets are no classes."""
    mean_label: float

    @property
    def dominant_label(self) -> str | None:
        """The class that it holds most of, the first of equals."""
        return max(self.label_counts, key=self.label_counts.__getitem__, default=None)


def make_split(
    task_name: str,
    data_dir: Path,
    kind: str,
    settings: Mapping[str, Any] | msgspec.Struct,
    clients: int,
    seed: int,
    held_out: float,
    folder: Path,
) -> Path:
    """Write `<folder>/split.npz`: the same for the same arguments, on any machine.

    `settings` are those of the kind, as a table or as its struct. `clients` 0: everybody who owns
    samples, with the kind "owners". `held_out` is the share of its samples, below 1, that each
    client evaluates on: the nearest that whole recordings come to; nothing where it is 0, or where
    a client has but one sample or recording.

    Raises `TaskError` where the task has no pool or the data cannot be read, `UnknownPart` where
    there is no such kind, `SettingsError` where it has no such settings, `SplitError` where the
    samples cannot be shared out so, and OSError where the file cannot be written.
    """
    kind_of_split = parts.load(splits, kind)
    chosen = settings_reader.convert(
        msgspec.to_builtins(settings), kind_of_split.Settings, f'settings of the split "{kind}"'
    )
    if not 0 <= held_out < 1:
        raise SplitError(f"{held_out} cannot be the share held out: it is at least 0 and below 1")
    task = _torch_task(task_name)
    pool = task.load_pool(data_dir, "train")
    labels = _labels(pool, task_name, kind if kind_of_split.BY_LABEL else "")
    if clients == 0 and kind == "owners":
        clients = _owner_count(pool, chosen)
    held = kind_of_split.split(chosen, labels, pool.owners, clients, _chance(seed, "split", kind))
    parted = _hold_out(pool, held, held_out, _chance(seed, "held out"))
    made_by = {
        "task": task_name,
        "kind": kind,
        "settings": msgspec.to_builtins(chosen),
        "clients": clients,
        "seed": seed,
        "held_out": held_out,
    }
    return split_data.write(
        split_data.Split(
            # Whoever reads the file may have started in another folder.
            data_dir=str(data_dir.resolve()),
            pool_digest=pool.digest,
            clients=_owners_names(pool, held) if kind == "owners" else _numbered(clients),
            train=tuple(train for train, _ in parted),
            held_out=tuple(out for _, out in parted),
            labels=task.class_names,
            label_counts=_label_counts(pool.targets, held, len(task.class_names)),
            label_means=np.array([_label_mean(labels[own]) for own in held]),
            made_by=json.dumps(made_by),
        ),
        folder,
    )


def holdings(folder: Path) -> list[Holding]:
    """Who holds what, in the order of the clients. Raises `TaskError` as `split_data.read` does."""
    split = split_data.read(folder)
    return [
        Holding(
            client,
            samples=len(train) + len(out),
            held_out=len(out),
            label_counts=dict(zip(split.labels, counts.tolist(), strict=True)),
            mean_label=float(mean),
        )
        for client, train, out, counts, mean in zip(
            split.clients,
            split.train,
            split.held_out,
            split.label_counts,
            split.label_means,
            strict=True,
        )
    ]


def _torch_task(name: str) -> TorchTask:
    task = load_task(name)
    if not isinstance(task, TorchTask):
        raise TaskError(
            f"{name} has no load_pool: only a task with a torch model can have one, and a fleet's"
            " data is split by it. To simulate one, see load_pool in learning_tasks/pool.py"
        )
    return task


def _labels(pool: Pool, task_name: str, by_label: str) -> splits.Labels:
    """`by_label`: the kind of split, where it looks at labels."""
    labels: splits.Labels = pool.targets.numpy()
    # As a model of one output has its targets where nobody flattens it: a number each, too.
    if labels.shape[1:] == (1,):
        return labels[:, 0]
    if labels.ndim != 1 and by_label:
        others = [name for name in parts.names(splits) if not parts.load(splits, name).BY_LABEL]
        raise SplitError(
            f"the split {by_label} needs one label per sample, and the targets of {task_name} have "
            f"the shape {labels.shape}: choose another one ({', '.join(others)})"
        )
    return labels


def _label_mean(labels: splits.Labels) -> float:
    """Of what is no label, such as the characters of a text, there is none."""
    return float(labels.mean()) if labels.ndim == 1 else 0.0


def _owner_count(pool: Pool, settings: owners.Settings) -> int:
    if pool.owners is None:
        return 1  # That nobody owns these samples is what `owners.split` says to any number.
    return len(owners.positions_by_owner(pool.owners, settings.samples_min))


def _chance(seed: int, *purpose: object) -> np.random.Generator:
    return np.random.default_rng(stream(seed, *purpose).getrandbits(128))


def _hold_out(
    pool: Pool, held: Sequence[Positions], share: float, chance: np.random.Generator
) -> list[tuple[Positions, Positions]]:
    """Each client's samples to train on and to evaluate on."""
    recording_of = np.arange(len(pool)) if pool.recordings is None else np.array(pool.recordings)
    return [_hold_out_of(own, recording_of[own], share, chance) for own in held]


def _hold_out_of(
    own: Positions, recording_of: NDArray[Any], share: float, chance: np.random.Generator
) -> tuple[Positions, Positions]:
    """A client's samples to train on and to evaluate on: whole recordings, so many that the share
    is as near as can be, but at least one and never all. Whoever has but one trains on all of it.
    """
    recordings, which = np.unique(recording_of, return_inverse=True)
    if share == 0 or len(recordings) == 1:
        return own, own[:0]
    order = chance.permutation(len(recordings))
    held_out = np.bincount(which)[order].cumsum()[:-1]
    count = int(np.abs(held_out - share * len(own)).argmin()) + 1
    is_out = np.isin(which, order[:count])
    return own[~is_out], own[is_out]


def _owners_names(pool: Pool, held: Sequence[Positions]) -> tuple[str, ...]:
    """Each owner's own, with what a client's name cannot have replaced by hyphens."""
    assert pool.owners is not None, "the split by owners has found them"
    theirs = [pool.owners[own[0]] for own in held]
    names = tuple(_NOT_IN_A_NAME.sub("-", owner).lstrip("._-")[:64] for owner in theirs)
    if split_data.JUDGE in names or not all(map(is_name, names)) or len(set(names)) < len(names):
        raise SplitError(
            "the owners' names must differ in their first 64 letters and digits, and none can be "
            f"{split_data.JUDGE}: change them in load_pool"
        )
    return names


def _numbered(count: int) -> tuple[str, ...]:
    width = max(4, len(str(count)))
    return tuple(f"client-{number:0{width}}" for number in range(1, count + 1))


def _label_counts(
    targets: Tensor, held: Sequence[Positions], class_count: int
) -> NDArray[np.int64]:
    if class_count == 0:
        return np.zeros((len(held), 0), np.int64)
    if fault := class_targets.fault(targets, class_count):
        raise TaskError(f"load_pool gives no classes: {fault}")
    labels = targets.numpy()
    return np.stack([np.bincount(labels[own], minlength=class_count) for own in held])

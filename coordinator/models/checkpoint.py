"""The model on disk, as safetensors: what other programs read, and what a run starts from."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from coordinator.persistence.durable import write_whole
from fedmqtt.weights import Array, Layout, Weights, WeightsError, layout_of


class CheckpointError(ValueError):
    """A file that is no model to start from; says what is wrong with it."""


def load(path: Path, what: str = "initial model") -> tuple[Layout, Array]:
    """Layout, in the file's order of names, and one flat vector. Raises CheckpointError.

    `what` it is to the person who reads that it is none.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            # Looked at before it is read: numpy does not have all types that safetensors has.
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            if others := [f"{name} is {kind}" for name, kind in kinds.items() if kind != "F32"]:
                raise CheckpointError(f"{what} {path}: {others[0]}, not F32")
            found: Weights = {name: file.get_tensor(name) for name in kinds}
    except FileNotFoundError as bad:
        raise CheckpointError(f"{what} {path}: no such file") from bad
    except (OSError, safetensors.SafetensorError) as bad:
        raise CheckpointError(f"{what} {path}: {bad}") from bad
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{what} {path}: {name} has values that are not finite")
    layout = layout_of(found)
    if layout.size == 0:
        raise CheckpointError(f"{what} {path}: there are no numbers in it")
    return layout, layout.flatten(found)


def load_as(path: Path, layout: Layout) -> Array:
    """The flat vector of a model that is known to have this layout. Raises CheckpointError.

    In the layout's order of names: the file has its own.
    """
    found, flat = load(path, "model")
    try:
        return layout.flatten(found.unflatten(flat))
    except WeightsError as bad:
        raise CheckpointError(f"model {path}: {bad}") from bad


def save(path: Path, layout: Layout, flat: Array, metadata: dict[str, str]) -> None:
    """Write the model, whole or not at all. When this returns, it would survive a loss of power."""
    # One entry: safetensors writes several in another order each time, and the same model is to be
    # the same file.
    about = {"fedmqtt": json.dumps(metadata, sort_keys=True)}
    write_whole(path, safetensors.numpy.save(layout.unflatten(flat), about))


def show(path: Path, newest: Path) -> None:
    """Let `path` be the model of `newest`, without a second copy where the file system can."""
    if path.exists() and path.samefile(newest):
        # To rename one name of a file to another of its names does nothing.
        return
    link = path.with_suffix(".part")
    link.unlink(missing_ok=True)
    try:
        os.link(newest, link)
    except OSError:
        # FAT and some network drives have no links.
        shutil.copyfile(newest, link)
    link.replace(path)

"""The model on disk, as safetensors: what other programs read, and what a run starts from."""

import os
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from fedmqtt.weights import Array, Layout, Weights, layout_of


class CheckpointError(ValueError):
    """A file that is no model to start from; says what is wrong with it."""


def load(path: Path) -> tuple[Layout, Array]:
    """Layout, in the file's order of names, and one flat vector. Raises CheckpointError."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            found: Weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as bad:
        raise CheckpointError(f"initial model {path}: {bad}") from bad
    for name, array in found.items():
        if array.dtype != np.float32:
            raise CheckpointError(f"initial model {path}: {name} is {array.dtype}, not float32")
    layout = layout_of(found)
    return layout, layout.flatten(found)


def save(path: Path, layout: Layout, flat: Array, metadata: dict[str, str]) -> None:
    """Write the model whole or not at all: to a file beside it, then one rename."""
    part = path.with_suffix(".part")
    part.write_bytes(safetensors.numpy.save(layout.unflatten(flat), metadata))
    os.replace(part, path)

"""The model on disk, as safetensors: what other programs read, and what a run starts from."""

import json
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
            # Looked at before it is read: numpy does not have all types that safetensors has.
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            if others := [f"{name} is {kind}" for name, kind in kinds.items() if kind != "F32"]:
                raise CheckpointError(f"initial model {path}: {others[0]}, not F32")
            found: Weights = {name: file.get_tensor(name) for name in kinds}
    except FileNotFoundError as bad:
        raise CheckpointError(f"initial model {path}: no such file") from bad
    except (OSError, safetensors.SafetensorError) as bad:
        raise CheckpointError(f"initial model {path}: {bad}") from bad
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"initial model {path}: {name} has values that are not finite")
    layout = layout_of(found)
    if layout.size == 0:
        raise CheckpointError(f"initial model {path}: there are no numbers in it")
    return layout, layout.flatten(found)


def save(path: Path, layout: Layout, flat: Array, metadata: dict[str, str]) -> None:
    """Write the model whole or not at all: to a file beside it, then one rename."""
    part = path.with_suffix(".part")
    # One entry: safetensors writes several in another order each time, and the same model is to be
    # the same file.
    about = {"fedmqtt": json.dumps(metadata, sort_keys=True)}
    try:
        part.write_bytes(safetensors.numpy.save(layout.unflatten(flat), about))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise

"""Makes a model of one before it and the deltas that lead there, in a trainer's process."""

import mmap
from pathlib import Path

from edge_client.training_job import Rebuild
from fedmqtt import deltas, weights
from fedmqtt.deltas import DeltaError
from fedmqtt.weights import WeightsError


class RebuildError(ValueError):
    """What lies there does not lead to the model; says why."""


def rebuild(order: Rebuild) -> None:
    """Leave the model's file at its path, with the right digest, or raise RebuildError."""
    part = Path(order.model_path).with_suffix(".rebuilt.part")
    try:
        file = _made(order)
        if weights.digest(file) != order.digest:
            raise RebuildError("what the deltas make is not the offered model")
        part.write_bytes(file)
        part.replace(order.model_path)
    except (WeightsError, DeltaError) as bad:
        raise RebuildError(str(bad)) from bad
    except OSError as bad:
        part.unlink(missing_ok=True)
        raise RebuildError(f"{bad.filename}: {bad.strerror}") from bad


def _made(order: Rebuild) -> bytes:
    with Path(order.base_path).open("rb") as file:
        layout, numbers = weights.read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for path in order.delta_paths:
        numbers = deltas.apply(numbers, Path(path).read_bytes(), layout.shapes)
    return weights.write(layout, numbers)

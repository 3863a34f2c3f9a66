"""The features of a torch task that names none: its targets, and its inputs channel by channel.

Inputs of shape (n, d) have d channels; of shape (n, c, ...) there are c, with all the numbers of a
channel in one feature. Where there are more than `CHANNELS_MAX`, as in a picture that was made
flat, all inputs together are one.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CHANNELS_MAX = 16
TOGETHER = "inputs"


def names(class_names: Sequence[str]) -> dict[str, Sequence[str]]:
    """With classes, the targets are of one feature that counts them."""
    numbers = (TOGETHER, *map(_channel, range(CHANNELS_MAX)))
    found: dict[str, Sequence[str]] = {name: () for name in numbers}
    return {"class": tuple(class_names), **found} if class_names else {"target": (), **found}


def values(batches: Iterable[tuple[Tensor, Tensor]], *, classes: bool) -> dict[str, NDArray[Any]]:
    """Of a data set in batches; only those features that it has."""
    inputs: list[NDArray[Any]] = []
    targets: list[NDArray[Any]] = []
    for some, theirs in batches:
        inputs.append(_by_channel(some.numpy()))
        targets.append(theirs.numpy().ravel())
    found = {"class" if classes else "target": np.concatenate(targets)}
    together = np.concatenate(inputs, axis=1)
    if len(together) > CHANNELS_MAX:
        return found | {TOGETHER: together.ravel()}
    return found | {_channel(n): channel for n, channel in enumerate(together)}


def _by_channel(inputs: NDArray[Any]) -> NDArray[Any]:
    """Shape (n,) or (n, c, ...) to (c, all the numbers of it)."""
    if inputs.ndim == 1:
        return inputs[np.newaxis]
    return np.moveaxis(inputs, 1, 0).reshape(inputs.shape[1], -1)


def _channel(number: int) -> str:
    return f"input {number}"

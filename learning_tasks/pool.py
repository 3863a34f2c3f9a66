"""One pool of samples that the lab shares out among made-up clients.

A pool is what a benchmark calls its training set or its test set: nobody's own data yet. Which of
the samples is whose says `split_data`; a real client never needs either.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy
from torch.utils.data import TensorDataset

from learning_tasks.seam import DataError, TaskError


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples by position, 0 to n - 1, always in the same order. Raises `TaskError` where the
    fields disagree on n."""

    inputs: Tensor
    """(n, ...), as the model takes them."""
    targets: Tensor
    """(n,): classes as int64, or numbers. (n, ...): more than one of a sample, as the characters of
    a text; a split that looks at labels cannot share them out."""
    owners: Sequence[str] | None = None
    """Whose each sample is by nature: a person, a device; None where nobody's."""
    recordings: Sequence[int] | None = None
    """Samples with the same number were cut from one recording and may overlap. A client that holds
    samples back to be judged on holds back whole recordings. None: every sample stands alone."""

    def __post_init__(self) -> None:
        lengths = {
            name: len(values)
            for name in ("inputs", "targets", "owners", "recordings")
            if (values := getattr(self, name)) is not None
        }
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{length} {name}" for name, length in lengths.items())
            raise TaskError(f"a pool needs as many of each, and load_pool gave {said}")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def digest(self) -> str:
        """The same for pools of the same size and shape with the same targets in the same order.

        The inputs themselves are left out: they are large, and what is computed from a recording
        may differ in its last bit from machine to machine.
        """
        said = f"{tuple(self.inputs.shape)} {tuple(self.targets.shape)} {self.targets.dtype}"
        targets = np.ascontiguousarray(self.targets.numpy())
        return hashlib.sha256(said.encode() + targets.tobytes()).hexdigest()[:32]

    def samples(self, positions: NDArray[np.int64]) -> TensorDataset:
        chosen = from_numpy(positions)
        return TensorDataset(self.inputs[chosen], self.targets[chosen])


LoadPool = Callable[[Path, str], Pool]
"""`load_pool(data_dir, purpose)` of a task file; `purpose` is "train" or "test"."""


# The training and the test pool of two tasks: a process that plays a thousand clients reads them
# once, and one that goes through many tasks does not keep them all.
@lru_cache(maxsize=4)
def kept_pool(load_pool: LoadPool, data_dir: Path, purpose: str) -> Pool:
    """The pool, read at most once by this process.

    Raises `DataError` for whatever the owner's `load_pool` stumbles over.
    """
    try:
        return load_pool(data_dir, purpose)
    except TaskError as error:
        raise DataError(str(error)) from error
    except Exception as error:
        raise DataError(
            f"load_pool failed in {data_dir} ({type(error).__name__}: {error})"
        ) from error

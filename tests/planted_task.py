"""A task whose clients have values of their own, that a test can look for wherever they may not be.

Also read by that test. A training ends when its gate is there: a file `<client>-<round>` in the
folder of the data. The round is told by the model: whoever trains makes it older by one.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning_tasks.seam import Evaluated, Trained

SIZE = 300
CLASS_NAMES = ("no", "yes")


class Planted(NamedTuple):
    """What nobody else may know of a client."""

    change: NDArray[np.float32]
    samples: int
    loss: float
    steps: int
    measured_loss: float
    confusion: list[list[int]]


def planted(client: str) -> Planted:
    digest = hashlib.sha256(client.encode()).digest()
    chance = np.random.default_rng(int.from_bytes(digest))
    change = chance.normal(0, 0.1, SIZE).astype(np.float32)
    return Planted(
        change,
        samples=int(chance.integers(2**24, 2**28)),
        loss=float(chance.uniform(1, 2)),
        steps=int(chance.integers(2**24, 2**28)),
        measured_loss=float(chance.uniform(2, 3)),
        confusion=chance.integers(2**12, 2**14, size=(2, 2)).tolist(),
    )


def initial_weights(seed: int) -> dict[str, NDArray[np.float32]]:
    return {"age": np.zeros(1, np.float32), "w": np.zeros(SIZE, np.float32)}


def load_data(data_dir: Path, client: str, purpose: str) -> tuple[Path, str]:
    return data_dir, client


def train(weights: Any, data: tuple[Path, str], training: Any, seed: int, progress: Any) -> Trained:
    data_dir, client = data
    own, number = planted(client), round(float(weights["age"][0])) + 1
    while not (data_dir / f"{client}-{number}").exists():
        progress(0.5)
        time.sleep(0.01)
    after = {"age": weights["age"] + 1, "w": weights["w"] + own.change}
    return Trained(after, own.samples, {"loss": own.loss}, own.steps)


def evaluate(weights: Any, data: tuple[Path, str]) -> Evaluated:
    own = planted(data[1])
    metrics = {"loss": own.measured_loss}
    return Evaluated(sum(map(sum, own.confusion)), metrics, own.confusion)

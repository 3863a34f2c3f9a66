"""What the fault benchmark's clients learn: each its own vector, at a pace that a test sets.

Training depends on the client's data, the base model and the round's seed, and on nothing else. How
*long* it takes is up to the files in the client's data folder:

    <data_dir>/pace_s          the longest a training takes, in seconds; no such file: no time
    <data_dir>/<client>.hold   a round: the client's trainings from it on do not end while this
                               stands there

The round is told by the model itself: every average makes its `age` larger by a sixteenth.

Client number i of `NAMES` says that it trained on 4^i samples. The sum over a round's answers,
written in base 4, tells how often each client was counted: 0, 1, 2 or 3 times.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedmqtt.messages import Training
from fedmqtt.weights import Array, Weights
from learning_tasks.seam import Evaluated, Trained

NAMES = ("ann", "bob", "cat", "dan", "eve")
BASE = 4
SIZE = 40

CHANGE_MAX = 0.1
"""So small that the exact sum of 40 answers has all the fraction bits there are: how many were
invited does not show in a model, and runs with other cohorts can be compared."""

_YEAR = 1 / 16
_LOOK_EVERY_S = 0.01


class Data(NamedTuple):
    client: str
    folder: Path


def samples_of(client: str) -> int:
    return int(BASE ** NAMES.index(client))


def initial_weights(seed: int) -> Weights:
    return weights_of_size(SIZE, seed)


def weights_of_size(size: int, seed: int) -> Weights:
    """Three tensors with `size` numbers in all."""
    drawn = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return {"age": np.zeros(1, np.float32), "bias": drawn[1:5], "vector": drawn[5:]}


def load_data(data_dir: Path, client: str, purpose: str) -> Data:
    return Data(client, data_dir)


def train(
    weights: Weights,
    data: Data,
    training: Training,
    seed: int,
    progress: Callable[[float], None],
) -> Trained:
    """A hundredth of the way to the client's vector, and a little chance: below CHANGE_MAX."""
    chance = np.random.default_rng(seed)
    number = round(float(weights["age"][0]) / _YEAR) + 1
    _take_time(data, number, chance.uniform(0.3, 1.0), progress)
    after = {
        name: (array + 0.01 * (_goal(data.client, name, array) - array)).astype(np.float32)
        + (0.002 * chance.standard_normal(array.shape)).astype(np.float32)
        for name, array in weights.items()
    }
    after["age"] = weights["age"] + np.float32(_YEAR)
    return Trained(after, samples_of(data.client), {"loss": _distance(after, data.client)})


def evaluate(weights: Weights, data: Data) -> Evaluated:
    return Evaluated(1, {"distance": _distance(weights, data.client)}, None)


def _take_time(data: Data, number: int, share: float, progress: Callable[[float], None]) -> None:
    pace = data.folder / "pace_s"
    takes_s = share * float(pace.read_text()) if pace.exists() else 0.0
    began = time.monotonic()
    while (spent_s := time.monotonic() - began) < takes_s or _is_held(data, number):
        # It may raise: the agent wants the training to end.
        progress(min(spent_s / takes_s, 0.99) if takes_s else 0.0)
        time.sleep(_LOOK_EVERY_S)


def _is_held(data: Data, number: int) -> bool:
    try:
        return number >= int((data.folder / f"{data.client}.hold").read_text())
    except FileNotFoundError:
        return False


def _goal(client: str, name: str, like: Array) -> Array:
    seed = list(hashlib.sha256(f"{client}/{name}".encode()).digest())
    return np.random.default_rng(seed).standard_normal(like.shape).astype(np.float32)


def _distance(weights: Weights, client: str) -> float:
    gaps = [np.abs(_goal(client, name, array) - array).mean() for name, array in weights.items()]
    return float(np.mean(gaps))

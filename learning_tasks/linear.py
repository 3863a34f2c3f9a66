"""A linear classifier in plain numpy: the example of a task that needs no torch.

Softmax regression on four measurements and three classes. A client's own data is
`<data_dir>/<client>.csv`: rows of four numbers and the class, 0 to 2, no header. Without that file
the client's data is drawn from its name: the same three clouds for everybody, moved a little for
each, so that clients differ as real ones do.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from learning_tasks.seam import Evaluated, Progress, TaskError, Trained

FEATURES = 4
CLASS_NAMES = ("0", "1", "2")
CLASSES = len(CLASS_NAMES)
LOCAL_METHODS = ("proximal", "steps", "correction")
FEATURE_NAMES: dict[str, tuple[str, ...]] = {
    **{f"measurement {n}": () for n in range(1, FEATURES + 1)},
    "class": CLASS_NAMES,
}

# So near each other that the best model is right about 0.86 of the time: there is something to see.
_CENTRES = np.array([[2, 0, 0, 1], [0, 2, 0, -1], [0, 0, 2, 0]], np.float32)
_CLIENT_SHIFT = 0.3
_SAMPLES = {"train": 60, "evaluate": 30}


class Samples(NamedTuple):
    inputs: NDArray[np.float32]  # (n, FEATURES)
    classes: NDArray[np.int64]  # (n,)


def initial_weights(seed: int) -> Weights:
    """Zeros for any seed: the loss is convex, so there is no symmetry to break."""
    return {
        "weight": np.zeros((FEATURES, CLASSES), np.float32),
        "bias": np.zeros(CLASSES, np.float32),
    }


def load_data(data_dir: Path, client: str, purpose: str) -> Samples:
    path = data_dir / f"{client}.csv"
    return _read(path, purpose) if path.is_file() else _draw(client, purpose)


def train(
    weights: Weights,
    data: Samples,
    training: Training,
    seed: int,
    progress: Progress,
    correction: Weights | None = None,
) -> Trained:
    """SGD on the cross-entropy; the metric `loss` is the one after training, on the same data."""
    base, weights = weights, {name: array.copy() for name, array in weights.items()}
    correction = correction or {}
    steps = _descend(weights, base, data, training, seed, progress, correction)
    loss = _loss(_probabilities(weights, data.inputs), data.classes)
    if not np.isfinite(loss):
        raise TaskError(f"the loss became {loss}: lower the learning rate or correct the data")
    corrected = tuple(correction)
    return Trained(weights, len(data.classes), {"loss": loss}, steps, corrected=corrected)


def gradient(
    weights: Weights, data: Samples, training: Training, seed: int, progress: Progress
) -> Trained:
    """Of the cross-entropy over all samples, and of weight decay; the metric `loss` is the one at
    `weights`."""
    slope = _gradient(weights, data)
    found = {name: slope[name] + training.weight_decay * array for name, array in weights.items()}
    progress(1.0)
    loss = _loss(_probabilities(weights, data.inputs), data.classes)
    return Trained(found, len(data.classes), {"loss": loss}, steps=1)


def evaluate(weights: Weights, data: Samples) -> Evaluated:
    probabilities = _probabilities(weights, data.inputs)
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(confusion, (data.classes, probabilities.argmax(axis=1)), 1)
    count = len(data.classes)
    metrics = {
        "loss": _loss(probabilities, data.classes),
        "accuracy": float(np.trace(confusion) / count),
    }
    return Evaluated(count, metrics, confusion.tolist())


def _descend(
    weights: Weights,
    base: Weights,
    data: Samples,
    training: Training,
    seed: int,
    progress: Progress,
    correction: Weights,
) -> int:
    """Change `weights`, which began as `base`; how many steps that took."""
    chance = np.random.default_rng(seed)
    velocity = {name: np.zeros_like(array) for name, array in weights.items()}
    count, steps = len(data.classes), 0
    for epoch in range(training.epochs):
        order = chance.permutation(count)
        for start in range(0, count, training.batch_size):
            rows = order[start : start + training.batch_size]
            slope = _gradient(weights, Samples(data.inputs[rows], data.classes[rows]))
            for name, array in weights.items():
                slope[name] += training.weight_decay * array
                if training.proximal:
                    slope[name] += training.proximal * (array - base[name])
                if correction:
                    slope[name] += correction[name]
                velocity[name] *= training.momentum
                velocity[name] += slope[name]
                array -= training.learning_rate * velocity[name]
            steps += 1
            if progress((epoch + (start + len(rows)) / count) / training.epochs):
                return steps
    return steps


def features(data: Samples) -> dict[str, NDArray[Any]]:
    """For statistics: each measurement, and the class, over the client's rows."""
    columns = zip(FEATURE_NAMES, data.inputs.T, strict=False)
    return {**dict(columns), "class": data.classes}


def _gradient(weights: Weights, batch: Samples) -> Weights:
    """Of the mean cross-entropy: softmax minus one-hot, times the input."""
    error = _probabilities(weights, batch.inputs)
    error[np.arange(len(error)), batch.classes] -= 1
    error /= len(error)
    return {"weight": batch.inputs.T @ error, "bias": error.sum(axis=0)}


def _probabilities(weights: Weights, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax scores, shape (n, CLASSES)."""
    scores = inputs @ weights["weight"] + weights["bias"]
    # The largest becomes 0, so that exp cannot overflow.
    exponentials: NDArray[np.float32] = np.exp(scores - scores.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def _loss(probabilities: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    chosen = probabilities[np.arange(len(classes)), classes]
    # A certain mistake costs much, not infinitely much; NaN passes, to be seen.
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def _read(path: Path, purpose: str) -> Samples:
    """Every fifth row is kept for evaluation; the others train."""
    try:
        table = np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise TaskError(f"{path} is not a table of numbers: {error}") from error
    if table.shape[1] != FEATURES + 1 or not np.isin(table[:, -1], range(CLASSES)).all():
        raise TaskError(f"{path} needs {FEATURES} numbers and a class below {CLASSES} in each row")
    held_out = np.arange(len(table)) % 5 == 4
    table = table[held_out if purpose == "evaluate" else ~held_out]
    if len(table) == 0:
        raise TaskError(f"{path} has no row to {purpose} with: every fifth is for evaluation")
    return Samples(table[:, :-1], table[:, -1].astype(np.int64))


def _draw(client: str, purpose: str) -> Samples:
    shift = _CLIENT_SHIFT * _stream(client, "shift").standard_normal(FEATURES)
    chance = _stream(client, purpose)
    classes = chance.integers(CLASSES, size=_SAMPLES[purpose])
    noise = chance.standard_normal((len(classes), FEATURES))
    return Samples((_CENTRES[classes] + shift + noise).astype(np.float32), classes)


def _stream(client: str, use: str) -> np.random.Generator:
    # Not hash(): Python salts it anew in every process.
    return np.random.default_rng(list(hashlib.sha256(f"{client}/{use}".encode()).digest()))

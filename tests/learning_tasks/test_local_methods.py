"""Beyond plain SGD: the proximal term, whole gradients, and training that ends early.

Tasks with torch and without: each against the same arithmetic, written out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from learning_tasks import linear
from learning_tasks.torch_training import TorchTask

ANN = linear.load_data(Path("none"), "ann", "train")
STEPS = 4  # of 16 in an epoch of 60


class Softmax:
    """The linear task again, as a torch task file. Weights are the other way round there."""

    CLASS_NAMES = ("a", "b", "c")

    def build_model(self) -> nn.Module:
        return nn.Linear(linear.FEATURES, linear.CLASSES)

    def load_data(self, data_dir: Path, client: str, purpose: str) -> Dataset[Any]:
        raise AssertionError("the data is given")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


class Normalised(Softmax):
    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


class Tied(Softmax):
    def build_model(self) -> nn.Module:
        once = nn.Linear(4, 4)
        return nn.Sequential(once, nn.Tanh(), once, nn.Linear(4, 3))


SAMPLES = TensorDataset(torch.from_numpy(ANN.inputs), torch.from_numpy(ANN.classes))


def start() -> Weights:
    chance = np.random.default_rng(5)
    return {
        name: chance.standard_normal(array.shape).astype(np.float32)
        for name, array in linear.initial_weights(0).items()
    }


def turned(weights: Weights) -> Weights:
    """Between the two tasks."""
    return {"weight": np.ascontiguousarray(weights["weight"].T), "bias": weights["bias"]}


def slope(weights: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Of the mean cross-entropy over these samples of Ann's, one sample after the other."""
    total = {name: np.zeros_like(array) for name, array in weights.items()}
    for row in rows:
        x, wanted = ANN.inputs[row].astype(np.float64), ANN.classes[row]
        scores = x @ weights["weight"] + weights["bias"]
        error = np.exp(scores) / np.exp(scores).sum()
        error[wanted] -= 1
        total["weight"] += np.outer(x, error) / len(rows)
        total["bias"] += error / len(rows)
    return total


def descended(
    training: Training, batches: list[Any], correction: Weights | None = None
) -> dict[str, Any]:
    """Local SGD with momentum, weight decay, a proximal term and a correction, by the book."""
    base = {name: array.astype(np.float64) for name, array in start().items()}
    w = {name: array.copy() for name, array in base.items()}
    velocity = {name: np.zeros_like(array) for name, array in w.items()}
    for rows in batches:
        found = slope(w, rows)
        for name in w:
            g = found[name] + training.weight_decay * w[name]
            g += training.proximal * (w[name] - base[name])
            g += correction[name] if correction else 0
            velocity[name] = training.momentum * velocity[name] + g
            w[name] -= training.learning_rate * velocity[name]
    return w


def near(found: Weights, wanted: dict[str, Any]) -> None:
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-6)


TRAININGS = [
    Training(batch_size=16, learning_rate=0.2, proximal=0.7),
    Training(batch_size=16, learning_rate=0.1, proximal=0.7, momentum=0.5, weight_decay=0.1),
    Training(batch_size=16, epochs=2, learning_rate=0.1, weight_decay=0.1),
]


@pytest.mark.parametrize("training", TRAININGS)
def test_without_torch_a_step_is_what_the_book_says(training: Training) -> None:
    found = linear.train(start(), ANN, training, 3, lambda fraction: None)
    chance = np.random.default_rng(3)
    orders = [chance.permutation(60) for _ in range(training.epochs)]
    batches = [order[i : i + 16] for order in orders for i in range(0, 60, 16)]
    near(found.weights, descended(training, batches))
    assert found.steps == STEPS * training.epochs


@pytest.mark.parametrize("training", TRAININGS)
def test_with_torch_too(training: Training) -> None:
    found = TorchTask(Softmax()).train(turned(start()), SAMPLES, training, 3, lambda fraction: None)
    chance = torch.Generator().manual_seed(3)
    orders = [torch.randperm(60, generator=chance).numpy() for _ in range(training.epochs)]
    batches = [order[i : i + 16] for order in orders for i in range(0, 60, 16)]
    near(turned(found.weights), descended(training, batches))
    assert found.steps == STEPS * training.epochs


CORRECTION = {name: 3 * array for name, array in reversed(start().items())}


@pytest.mark.parametrize("training", TRAININGS[1:])
def test_a_correction_is_added_to_each_gradient(training: Training) -> None:
    found = linear.train(start(), ANN, training, 3, lambda fraction: None, CORRECTION)
    chance = np.random.default_rng(3)
    orders = [chance.permutation(60) for _ in range(training.epochs)]
    batches = [order[i : i + 16] for order in orders for i in range(0, 60, 16)]
    near(found.weights, descended(training, batches, CORRECTION))
    assert set(found.corrected) == {"weight", "bias"}


@pytest.mark.parametrize("training", TRAININGS[1:])
def test_with_torch_it_is_too(training: Training) -> None:
    task = TorchTask(Softmax())
    given = turned(start()), SAMPLES, training, 3, lambda fraction: None
    found = task.train(*given, correction=turned(CORRECTION))
    chance = torch.Generator().manual_seed(3)
    orders = [torch.randperm(60, generator=chance).numpy() for _ in range(training.epochs)]
    batches = [order[i : i + 16] for order in orders for i in range(0, 60, 16)]
    near(turned(found.weights), descended(training, batches, CORRECTION))
    assert found.corrected == ("weight", "bias")
    assert task.train(*given).corrected == ()


def test_running_statistics_are_not_corrected_and_a_layer_with_two_names_is_under_both() -> None:
    training = Training(batch_size=60, learning_rate=0.1)
    for model, names in (
        (Normalised(), {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}),
        (Tied(), {"0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"}),
    ):
        task = TorchTask(model)
        base = task.initial_weights(0)
        given = base, SAMPLES, training, 0, lambda fraction: None
        plain = task.train(*given).weights
        ones = {name: np.ones_like(array) for name, array in base.items()}
        found = task.train(*given, correction=ones)
        assert set(found.corrected) == names
        for name, array in found.weights.items():
            moved = 0.1 if name in names else 0
            np.testing.assert_allclose(plain[name] - array, moved, atol=1e-6)


@pytest.mark.parametrize("batch_size", [60, 16, 59])
def test_a_gradient_is_of_the_mean_over_all_samples_however_they_are_cut(batch_size: int) -> None:
    training = Training(batch_size=batch_size, weight_decay=0.1, epochs=5, momentum=0.9)
    wanted = slope({name: array.astype(np.float64) for name, array in start().items()}, range(60))
    for name, array in start().items():
        wanted[name] += 0.1 * array
    given = start()
    plain = linear.gradient(given, ANN, training, 0, lambda fraction: None)
    torched = TorchTask(Softmax()).gradient(turned(given), SAMPLES, training, 0, lambda f: None)
    near(plain.weights, wanted)
    near(turned(torched.weights), wanted)
    assert plain.sample_count == torched.sample_count == 60
    assert plain.metrics["loss"] == pytest.approx(torched.metrics["loss"], rel=1e-5)
    near(given, start())


def test_running_statistics_move_by_what_a_pass_changed() -> None:
    task = TorchTask(Normalised())
    base, training = task.initial_weights(0), Training(batch_size=60, learning_rate=0.1)
    slopes = task.gradient(base, SAMPLES, training, 0, lambda fraction: None).weights
    after = task.train(base, SAMPLES, training, 0, lambda fraction: None).weights
    for name in ("1.running_mean", "1.running_var"):
        np.testing.assert_allclose(base[name] - slopes[name], after[name], rtol=1e-5, atol=1e-6)
    # One full batch is one step along the gradient.
    for name in ("0.weight", "1.weight", "2.bias"):
        np.testing.assert_allclose(
            base[name] - 0.1 * slopes[name], after[name], rtol=1e-4, atol=1e-6
        )


def test_a_layer_with_two_names_moves_under_both() -> None:
    task = TorchTask(Tied())
    base = task.initial_weights(0)
    slopes = task.gradient(base, SAMPLES, Training(), 0, lambda fraction: None).weights
    assert slopes["0.weight"].any()
    np.testing.assert_array_equal(slopes["0.weight"], slopes["2.weight"])


@pytest.mark.parametrize("enough_after", [1, 3, 4, 7])
def test_training_that_ends_early_has_made_those_steps_and_says_so(enough_after: int) -> None:
    training = Training(batch_size=16, epochs=3, learning_rate=0.2)
    heard: list[float] = []

    def enough(fraction: float) -> bool:
        heard.append(fraction)
        return len(heard) == enough_after

    found = linear.train(start(), ANN, training, 3, enough)
    assert found.steps == enough_after == len(heard)
    chance = np.random.default_rng(3)
    orders = [chance.permutation(60) for _ in range(3)]
    batches = [order[i : i + 16] for order in orders for i in range(0, 60, 16)]
    near(found.weights, descended(training, batches[:enough_after]))
    heard.clear()
    torched = TorchTask(Softmax()).train(turned(start()), SAMPLES, training, 3, enough)
    assert torched.steps == enough_after == len(heard)
    assert np.isfinite(torched.metrics["loss"])

"""Together is alone, within the tolerance, and what cannot be trained together says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import learning_tasks.phonewatch as phonewatch
from edge_client.local_training import for_steps
from fedmqtt.messages import Training
from fleet_sim.training.group import TOLERANCE, Group, NotTogether, difference
from learning_tasks.seam import TaskError, Trained
from learning_tasks.torch_training import TorchTask


class File:
    """A task file around a model."""

    CLASS_NAMES = ("no", "yes", "perhaps")

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self.build_model = build

    def load_data(self, data_dir: Path, client: str, purpose: str) -> Dataset[Any]:
        raise AssertionError("the data is given")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def picture() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 6, 3, padding=1),
        nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


class Lengths(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs, inputs.norm(dim=1, keepdim=True)], dim=1)


def with_lengths() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), Lengths(), nn.LayerNorm(9), nn.Linear(9, 3))


def frozen() -> nn.Module:
    model = dense()
    next(model.parameters()).requires_grad_(False)
    return model


def samples(count: int, seed: int = 0) -> TensorDataset:
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=chance)
    return TensorDataset(inputs, torch.randint(3, (count,), generator=chance))


def alone(
    task: TorchTask, clients: list[TensorDataset], training: Training, seed: int = 0
) -> list[Trained | str]:
    results: list[Trained | str] = []
    for i, data in enumerate(clients):
        try:
            results.append(
                task.train(task.initial_weights(1), data, training, seed + i, lambda f: None)
            )
        except TaskError as error:
            results.append(str(error))
    return results


@pytest.mark.parametrize("build", [dense, picture, with_lengths, frozen])
@pytest.mark.parametrize(
    "training",
    [
        Training(epochs=1, batch_size=10),
        Training(epochs=3, batch_size=5, momentum=0.9, learning_rate=0.01),
        Training(epochs=2, batch_size=4, weight_decay=0.1),
        Training(epochs=2, batch_size=3, weight_decay=0.1, momentum=0.5),
        Training(epochs=2, batch_size=1, learning_rate=0.01),
    ],
)
def test_together_is_alone_within_the_tolerance(
    build: Callable[[], nn.Module], training: Training
) -> None:
    task = TorchTask(File(build))
    base = task.initial_weights(1)
    # Less than a batch, a batch, a single sample too many, none too many, unequal lengths.
    clients = [samples(count, seed=count) for count in (2, 10, 31, 40, 7, 11, 1)]
    together = Group(task).train(base, clients, range(len(clients)), training)
    for one, other in zip(alone(task, clients, training), together, strict=True):
        assert isinstance(one, Trained) and isinstance(other, Trained)
        assert list(other.weights) == list(base)
        assert other.sample_count == one.sample_count
        assert other.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-4)
        # No unit here is within rounding of its kink.
        assert difference(one.weights, other.weights, base) < TOLERANCE / 100


def test_the_phone_and_watch_model_is_trained_together() -> None:
    task = TorchTask(phonewatch)
    base = task.initial_weights(1)
    clients = [task.load_data(Path("nowhere"), name, "train") for name in ("phone-01", "watch-02")]
    training = Training(epochs=1, batch_size=16, learning_rate=0.01, momentum=0.9)
    together = Group(task).train(base, clients, [5, 6], training)
    for data, seed, other in zip(clients, (5, 6), together, strict=True):
        one = task.train(base, data, training, seed, lambda f: None)
        assert isinstance(other, Trained)
        assert difference(one.weights, other.weights, base) < TOLERANCE


def test_a_client_that_diverges_fails_nobody_else() -> None:
    task = TorchTask(File(dense))
    base = task.initial_weights(1)
    training = Training(epochs=2, batch_size=4, learning_rate=0.1)
    bad = samples(9, seed=2)
    bad.tensors[0][5] = float("nan")
    clients = [samples(12, seed=1), bad, samples(12, seed=3)]
    together = Group(task).train(base, clients, [0, 1, 2], training)
    apart = alone(task, clients, training)
    assert together[1] == apart[1]
    assert isinstance(apart[1], str) and "the loss became nan in epoch 1" in apart[1]
    for i in (0, 2):
        one, other = apart[i], together[i]
        assert isinstance(one, Trained) and isinstance(other, Trained)
        assert difference(one.weights, other.weights, base) < TOLERANCE


def test_training_leaves_the_given_weights_and_the_chance_of_others_alone() -> None:
    task = TorchTask(File(dense))
    base = task.initial_weights(1)
    before = {name: array.copy() for name, array in base.items()}
    for array in base.values():
        array.flags.writeable = False
    state = torch.get_rng_state()
    Group(task).train(base, [samples(12), samples(9)], [0, 1], Training(batch_size=4))
    assert all(np.array_equal(base[name], before[name]) for name in base)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_group_gives_the_same_bits_whatever_was_trained_before() -> None:
    task = TorchTask(File(picture))
    base = task.initial_weights(1)
    clients, training = [samples(20, seed=i) for i in range(3)], Training(batch_size=6)
    fresh = Group(task).train(base, clients, [0, 1, 2], training)
    used = Group(task)
    used.train(base, [samples(33, seed=9)] * 2, [7, 8], Training(batch_size=5, momentum=0.9))
    again = used.train(base, clients, [0, 1, 2], training)
    for one, other in zip(fresh, again, strict=True):
        assert isinstance(one, Trained) and isinstance(other, Trained)
        assert all(np.array_equal(one.weights[name], other.weights[name]) for name in base)


class Wavering(nn.Module):
    """Takes another way when the numbers are small."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if inputs.abs().mean() > 0.5 else -inputs


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs).relu())[:, :3]  # type: ignore[no-any-return]


class LastOfLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.LSTM(1, 3, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(inputs[:, :, None])[0][:, -1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), "random"),
        (LastOfLSTM, "recurrent layer"),
        (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), "in-place"),
        (lambda: nn.Sequential(nn.Linear(4, 3), Wavering()), "control flow"),
        (lambda: nn.Linear(4, 3).to(torch.float64), "float32"),
        (Tied, "share one tensor"),
    ],
)
def test_what_cannot_be_trained_together_says_why(
    build: Callable[[], nn.Module], reason: str
) -> None:
    task = TorchTask(File(build))
    clients = [samples(12, seed=1), samples(12, seed=2)]
    with pytest.raises(NotTogether, match=reason) as refused:
        Group(task).train(task.initial_weights(1), clients, [0, 1], Training(batch_size=4))
    assert "\n" not in str(refused.value)


def test_data_that_may_change_as_it_is_fetched_is_not_trained_together() -> None:
    class Shifting(TensorDataset):
        """Adds noise to what it hands out."""

    task = TorchTask(File(dense))
    clients = [Shifting(*samples(12).tensors), samples(12)]
    with pytest.raises(NotTogether, match="TensorDataset"):
        Group(task).train(task.initial_weights(1), clients, [0, 1], Training(batch_size=4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_what_the_processor_gives_within_the_tolerance() -> None:
    task = TorchTask(File(picture))
    base = task.initial_weights(1)
    clients = [samples(count, seed=count) for count in (21, 40, 11)]
    training = Training(epochs=2, batch_size=5, momentum=0.9, learning_rate=0.01)
    there = Group(task, "cuda").train(base, clients, [0, 1, 2], training)
    for one, other in zip(alone(task, clients, training), there, strict=True):
        assert isinstance(one, Trained) and isinstance(other, Trained)
        assert difference(one.weights, other.weights, base) < TOLERANCE


@pytest.mark.parametrize("build", [dense, picture, with_lengths, frozen])
@pytest.mark.parametrize(
    "training",
    [
        Training(epochs=2, batch_size=10, proximal=0.5),
        Training(epochs=2, batch_size=4, weight_decay=0.1, proximal=0.3, momentum=0.5),
    ],
)
def test_a_proximal_term_pulls_together_as_alone(
    build: Callable[[], nn.Module], training: Training
) -> None:
    task = TorchTask(File(build))
    base = task.initial_weights(1)
    clients = [samples(count, seed=count) for count in (2, 10, 31, 40, 7, 1)]
    together = Group(task).train(base, clients, range(len(clients)), training)
    pulled = 0
    for one, other in zip(alone(task, clients, training), together, strict=True):
        assert isinstance(one, Trained) and isinstance(other, Trained)
        assert difference(one.weights, other.weights, base) < TOLERANCE / 100
        assert other.steps == one.steps
        free = alone(task, clients, replace(training, proximal=0.0))[0]
        assert isinstance(free, Trained)
        pulled += difference(free.weights, other.weights, base) > TOLERANCE
    assert pulled


@pytest.mark.parametrize("build", [dense, picture, with_lengths, frozen])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_gradients_together_are_those_alone(
    build: Callable[[], nn.Module], weight_decay: float
) -> None:
    task, training = TorchTask(File(build)), Training(batch_size=8, weight_decay=weight_decay)
    base = task.initial_weights(1)
    nothing = {name: np.zeros_like(array) for name, array in base.items()}
    clients = [samples(count, seed=count) for count in (2, 8, 33, 40, 7, 1)]
    together = Group(task).train(base, clients, range(len(clients)), training, gradient=True)
    for data, other in zip(clients, together, strict=True):
        one = task.gradient(base, data, training, 0, lambda f: None)
        assert isinstance(other, Trained)
        assert list(other.weights) == list(base)
        assert difference(one.weights, other.weights, nothing) < TOLERANCE / 100
        assert other.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-4)
        assert (other.sample_count, other.steps) == (one.sample_count, 1)


def test_each_stops_after_the_steps_that_it_has_time_for() -> None:
    task, training = TorchTask(File(dense)), Training(epochs=3, batch_size=5, momentum=0.5)
    base = task.initial_weights(1)
    clients = [samples(count, seed=count) for count in (31, 12, 40, 7)]
    steps_max = [4, 0, 1, 100]
    together = Group(task).train(base, clients, range(4), training, steps_max=steps_max)
    made = []
    for i, other in enumerate(together):
        progress = for_steps(steps_max[i] or 1000, lambda f: None)
        one = task.train(base, clients[i], training, i, progress)
        assert isinstance(other, Trained)
        assert difference(one.weights, other.weights, base) < TOLERANCE / 100
        assert other.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-4)
        assert other.steps == one.steps
        made.append(other.steps)
    assert made == [4, 9, 1, 6]


def test_each_begins_with_layers_of_its_own() -> None:
    task, training = TorchTask(File(dense)), Training(epochs=2, batch_size=5, proximal=0.1)
    base = task.initial_weights(1)
    clients = [samples(count, seed=count) for count in (31, 12, 40)]
    chance = np.random.default_rng(0)
    own = [
        {"2.weight": chance.standard_normal((3, 8)).astype(np.float32)} if i else {}
        for i in range(3)
    ]
    together = Group(task).train(base, clients, range(3), training, own=own)
    for i, other in enumerate(together):
        one = task.train(base | own[i], clients[i], training, i, lambda f: None)
        assert isinstance(other, Trained)
        assert difference(one.weights, other.weights, base | own[i]) < TOLERANCE / 100


def test_clients_that_differ_in_what_is_not_trained_are_not_trained_together() -> None:
    task = TorchTask(File(frozen))
    base = task.initial_weights(1)
    own = [{"0.weight": base["0.weight"] + 1}, {}]
    with pytest.raises(NotTogether, match=r"clients differ in 0\.weight, which is not trained"):
        Group(task).train(base, [samples(5), samples(6)], [0, 1], Training(), own=own)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_each_has_a_correction_of_its_own(momentum: float) -> None:
    task = TorchTask(File(dense))
    base, training = task.initial_weights(0), Training(epochs=2, batch_size=4, momentum=momentum)
    clients = [samples(count, seed=count) for count in (5, 14, 9)]
    chance = np.random.default_rng(1)
    corrections = [
        {
            name: chance.normal(0, 0.3, array.shape).astype(np.float32)
            for name, array in base.items()
        }
        for _ in clients
    ]
    together = Group(task).train(base, clients, range(3), training, corrections=corrections)
    for i, found in enumerate(together):
        one = task.train(
            base, clients[i], training, i, lambda fraction: None, correction=corrections[i]
        )
        assert isinstance(found, Trained)
        assert difference(one.weights, found.weights, base) < TOLERANCE
        assert found.corrected == one.corrected == tuple(base)
        plain = task.train(base, clients[i], training, i, lambda fraction: None)
        assert difference(plain.weights, found.weights, base) > 0.1

"""A torch task behind the lower seam: what travels, what one step does, what comes out twice."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from fedmqtt.messages import Training
from learning_tasks.seam import TaskError
from learning_tasks.torch_training import TorchTask, put_weights, weights_of


class Line:
    """A task file: y = w x, squared error, and how far off the answers are."""

    def build_model(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def load_data(self, data_dir: Path, client: str, purpose: str) -> Dataset[Any]:
        return _points(0 if client == "empty" else 2)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"distance": (outputs - targets).abs().mean().item()}


class Signs:
    """A task file: is the number negative or positive? With dropout, to need chance."""

    CLASS_NAMES: tuple[str, ...] = ("negative", "positive")

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))

    def load_data(self, data_dir: Path, client: str, purpose: str) -> Dataset[Any]:
        inputs = torch.linspace(-1, 1, 10).reshape(10, 1)
        return TensorDataset(inputs, (inputs[:, 0] > 0).long())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


class Items(Dataset[tuple[Tensor, Tensor]]):
    """The same samples as another dataset, one at a time and with nothing to index."""

    def __init__(self, samples: TensorDataset) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        inputs, target = self._samples[i]
        return inputs, target


def _points(count: int) -> TensorDataset:
    x = torch.arange(1.0, count + 1).reshape(count, 1)
    return TensorDataset(x, 2 * x)


def _weight(value: float) -> dict[str, Any]:
    return {"weight": np.array([[value]], np.float32)}


def _silent(fraction: float) -> None:
    pass


def test_a_step_is_gradient_descent_on_the_mean_loss() -> None:
    training = Training(epochs=1, batch_size=2, learning_rate=0.1)
    # Points (1, 2) and (2, 4), w = 0: the gradient is the mean of 2 x (w x - y), -4 and -16.
    trained = TorchTask(Line()).train(_weight(0), _points(2), training, 0, _silent)
    assert trained.weights["weight"].item() == pytest.approx(1.0)
    assert trained.sample_count == 2
    assert trained.metrics == {"loss": pytest.approx(10.0)}


def test_momentum_and_weight_decay_are_those_of_torch() -> None:
    training = Training(epochs=3, batch_size=5, learning_rate=0.01, momentum=0.9, weight_decay=0.1)
    model = nn.Linear(1, 1, bias=False)
    put_weights(model, _weight(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    inputs, targets = _points(5).tensors
    for _ in range(3):
        optimizer.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimizer.step()
    trained = TorchTask(Line()).train(_weight(0.5), _points(5), training, 0, _silent)
    assert trained.weights["weight"].item() == pytest.approx(model.weight.item(), rel=1e-6)


def test_the_same_seed_gives_the_same_bits_whatever_happened_before() -> None:
    task = TorchTask(Signs())
    weights, data = task.initial_weights(1), task.load_data(Path(), "ann", "train")
    training = Training(epochs=2, batch_size=4)
    first = task.train(weights, data, training, 7, _silent).weights
    torch.rand(3)
    second = task.train(weights, data, training, 7, _silent).weights
    other = task.train(weights, data, training, 8, _silent).weights
    assert all(np.array_equal(first[name], second[name]) for name in weights)
    assert not all(np.array_equal(first[name], other[name]) for name in weights)


def test_training_leaves_the_given_weights_and_the_chance_of_others_alone() -> None:
    task = TorchTask(Signs())
    weights, data = task.initial_weights(1), task.load_data(Path(), "ann", "train")
    before = {name: array.copy() for name, array in weights.items()}
    for array in weights.values():
        array.flags.writeable = False  # as views of received bytes are
    state = torch.get_rng_state()
    task.train(weights, data, Training(), 7, _silent)
    assert all(np.array_equal(weights[name], before[name]) for name in weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_integer_buffers_stay_on_the_device() -> None:
    task = TorchTask(Signs())
    assert "2.running_mean" in task.initial_weights(0)
    assert "2.num_batches_tracked" not in task.initial_weights(0)


def test_weights_travel_as_float32_and_come_back_in_the_type_of_the_model() -> None:
    model = nn.Linear(1, 1, bias=False).to(torch.float16)
    put_weights(model, _weight(1 / 3))
    assert model.weight.dtype == torch.float16
    assert weights_of(model)["weight"].dtype == np.float32
    assert weights_of(model)["weight"].item() == float(np.float16(1 / 3))


def test_trained_weights_keep_the_order_of_the_model_file() -> None:
    task = TorchTask(Signs())
    names = sorted(task.initial_weights(0), reverse=True)
    given = {name: task.initial_weights(0)[name] for name in names}
    data = task.load_data(Path(), "ann", "train")
    assert list(task.train(given, data, Training(), 0, _silent).weights) == names


def test_a_plain_dataset_trains_to_the_same_bits_as_a_dataset_of_tensors() -> None:
    task, training = TorchTask(Line()), Training(epochs=2, batch_size=2, learning_rate=0.01)
    fast = task.train(_weight(0), _points(5), training, 3, _silent)
    slow = task.train(_weight(0), Items(_points(5)), training, 3, _silent)
    assert fast.weights["weight"].item() == slow.weights["weight"].item()


def test_a_single_sample_left_over_joins_the_batch_before_it() -> None:
    # BatchNorm refuses to train on one sample: 10 samples in batches of 3 would leave one.
    task = TorchTask(Signs())
    data = task.load_data(Path(), "ann", "train")
    heard: list[float] = []
    task.train(task.initial_weights(0), data, Training(batch_size=3), 0, heard.append)
    assert heard == pytest.approx([0.3, 0.6, 1.0])


def test_progress_is_heard_after_every_batch_of_every_epoch() -> None:
    heard: list[float] = []
    training = Training(epochs=2, batch_size=2, learning_rate=0.001)
    TorchTask(Line()).train(_weight(0), _points(4), training, 0, heard.append)
    assert heard == [0.25, 0.5, 0.75, 1.0]


def test_metrics_are_means_over_samples_not_over_batches() -> None:
    # 257 points: a batch of 256 and one of a single sample. w = 1 is off by x, y = 2 x.
    evaluated = TorchTask(Line()).evaluate(_weight(1), _points(257))
    assert evaluated.metrics["distance"] == pytest.approx(258 / 2)
    assert evaluated.sample_count == 257
    assert evaluated.confusion is None


def test_confusion_has_true_classes_in_rows() -> None:
    task = TorchTask(Signs())
    weights = {name: np.zeros_like(array) for name, array in task.initial_weights(0).items()}
    weights["3.bias"] = np.array([0, 1], np.float32)  # always "positive"
    evaluated = task.evaluate(weights, task.load_data(Path(), "ann", "evaluate"))
    assert evaluated.confusion == [[0, 5], [0, 5]]
    assert evaluated.metrics["accuracy"] == 0.5
    assert evaluated.metrics["loss"] == pytest.approx((math.log(1 + math.e) * 2 - 1) / 2)


def test_classes_of_one_byte_are_counted_where_there_are_many() -> None:
    class Letters(Signs):
        CLASS_NAMES = tuple("abcdefghijklmnopqrstuvwxyz")

        def build_model(self) -> nn.Module:
            return nn.Linear(26, 26, bias=False)

    targets = torch.arange(26, dtype=torch.uint8)
    data = TensorDataset(torch.eye(26), targets)
    found = TorchTask(Letters()).evaluate({"weight": np.eye(26, dtype=np.float32)}, data)
    assert found.metrics["accuracy"] == 1.0


def test_a_loss_that_is_no_number_stops_the_training_and_says_why() -> None:
    with pytest.raises(TaskError, match="lower the learning rate"):
        TorchTask(Line()).train(_weight(1e30), _points(2), Training(learning_rate=1e6), 0, _silent)


def test_weights_of_another_model_are_refused_by_name_and_shape() -> None:
    foreign = {"weight": np.zeros((2, 1), np.float32)}
    with pytest.raises(TaskError, match=r"weight: the model has \(1, 1\) there.*\(2, 1\)"):
        TorchTask(Line()).evaluate(foreign, _points(2))


def test_a_client_without_samples_is_told_so() -> None:
    with pytest.raises(TaskError, match="empty has no samples to train with in"):
        TorchTask(Line()).load_data(Path("here"), "empty", "train")


def test_a_client_whose_classes_begin_at_one_is_told_what_to_change() -> None:
    class FromOne(Signs):
        def load_data(self, data_dir: Path, client: str, purpose: str) -> Dataset[Any]:
            return TensorDataset(torch.zeros(2, 1), torch.tensor([1, 2]))

    said = "load_data of ann gives no classes for here: .* from 1 to 2: number the classes from 0"
    with pytest.raises(TaskError, match=said):
        TorchTask(FromOne()).load_data(Path("here"), "ann", "train")

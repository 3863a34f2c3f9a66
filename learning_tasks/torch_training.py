"""A torch task file behind the lower seam: local SGD, and evaluation, on named float32 arrays.

What is federated is every floating-point entry of the model's `state_dict`: parameters and
running statistics. Integer buffers, such as BatchNorm's `num_batches_tracked`, stay on the
device: they count what this device did, and a mean of counters means nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from learning_tasks import class_targets, default_features, split_data
from learning_tasks.pool import LoadPool, Pool, kept_pool
from learning_tasks.seam import DataError, Evaluated, Progress, TaskError, Trained

# Nothing is kept for gradients in evaluation, so batches can be large; this bounds the memory.
_EVALUATION_BATCH = 256

_Metrics = Callable[[Tensor, Tensor], dict[str, float]]
_LoadData = Callable[[Path, str, str], Dataset[Any]]


class TorchTaskFile(Protocol):
    """The upper seam: what every torch task file defines.

    Besides, load_data, load_pool, or both; and CLASS_NAMES, metrics, both, or neither: then a model
    is judged by its loss alone.
    """

    def build_model(self) -> torch.nn.Module: ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor: ...


class TorchTask:
    """The lower seam of a torch task file."""

    LOCAL_METHODS = ("proximal", "steps", "correction")

    def __init__(self, file: TorchTaskFile) -> None:
        self.file = file
        self._class_names: tuple[str, ...] = tuple(getattr(file, "CLASS_NAMES", ()))
        self._metrics: _Metrics | None = getattr(file, "metrics", None)
        self._load_data: _LoadData | None = getattr(file, "load_data", None)
        self._load_pool: LoadPool | None = getattr(file, "load_pool", None)

    @property
    def FEATURE_NAMES(self) -> Any:
        theirs = getattr(self.file, "FEATURE_NAMES", None)
        return default_features.names(self._class_names) if theirs is None else theirs

    def features(self, data: Dataset[Any]) -> Mapping[str, Any]:
        """The values of each feature over one client's data, one number a sample."""
        if hasattr(self.file, "FEATURE_NAMES"):
            found: Mapping[str, Any] = cast(Any, self.file).features(data)
            return found
        batches = _batches(data, _in_order(_count(data), _EVALUATION_BATCH))
        return default_features.values(batches, classes=bool(self._class_names))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names

    def initial_weights(self, seed: int) -> Weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return weights_of(self.file.build_model())

    def load_data(self, data_dir: Path, client: str, purpose: str) -> Dataset[Any]:
        """One client's own data: its share of a pool where `data_dir` has a `split.npz` and the
        task a pool, else what the task file's `load_data` finds.

        Raises `TaskError` for whatever the owner's code stumbles over in this client's files.
        """
        if self._load_pool is not None and split_data.is_split(data_dir):
            return self._share(data_dir, client, purpose)
        if self._load_data is None:
            raise TaskError(
                f"there is no {data_dir / split_data.FILE_NAME}, and this task has no load_data: "
                "its data is one pool that must be split first"
            )
        try:
            dataset = self._load_data(data_dir, client, purpose)
        except TaskError:
            raise
        except Exception as error:
            raise TaskError(
                f"load_data of {client} failed in {data_dir} ({type(error).__name__}: {error})"
            ) from error
        if _count(dataset) == 0:
            raise TaskError(f"{client} has no samples to {purpose} with in {data_dir}")
        if self._class_names and type(dataset) is TensorDataset and len(dataset.tensors) == 2:
            fault = class_targets.fault(dataset.tensors[1], len(self._class_names))
            if fault:
                raise TaskError(f"load_data of {client} gives no classes for {data_dir}: {fault}")
        return dataset

    def load_pool(self, data_dir: Path, purpose: str) -> Pool:
        """The samples of all clients ("train"), or those that none of them has ("test").

        Raises `TaskError`, also where the task file has no `load_pool`.
        """
        if self._load_pool is None:
            raise TaskError(
                "this task has no load_pool(data_dir, purpose), which gives the samples of all"
                " clients: there is nothing to split. learning_tasks/pool.py tells how to write one"
            )
        pool = kept_pool(self._load_pool, data_dir, purpose)
        if not len(pool):
            raise DataError(f"load_pool found no samples to {purpose} with in {data_dir}")
        return pool

    def _share(self, folder: Path, client: str, purpose: str) -> Dataset[Any]:
        split = split_data.read(folder)
        data_dir = Path(split.data_dir)
        if client == split_data.JUDGE:
            if purpose == "train":
                raise TaskError(
                    f"{client} evaluates on what no client trains on: invite it to evaluate only"
                )
            pool = self.load_pool(data_dir, "test")
            return TensorDataset(pool.inputs, pool.targets)
        positions = split.positions(client, purpose)
        pool = self.load_pool(data_dir, "train")
        if pool.digest != split.pool_digest:
            raise TaskError(
                f"{folder / split_data.FILE_NAME} was made for another pool than the {len(pool)} "
                f"samples in {data_dir}: split the data again"
            )
        return pool.samples(positions)

    def train(
        self,
        weights: Weights,
        data: Dataset[Any],
        training: Training,
        seed: int,
        progress: Progress,
        correction: Weights | None = None,
    ) -> Trained:
        """SGD on shuffled batches; the metric `loss` is the mean over the last epoch, or over what
        of it was made."""
        model = self._model_with(weights)
        # Dropout and augmentation in the model draw from torch's global stream. It is given back
        # afterwards, so that clients trained in one process do not depend on their order.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sgd = _Sgd(model, training, correction or {})
            loss, steps = self._descend(model, sgd, data, training, seed, progress)
        after = weights_of(model)
        # In the order they came in: a model file may list its tensors in another than the model.
        trained = {name: after[name] for name in weights}
        corrected = () if correction is None else corrected_in(model)
        return Trained(trained, _count(data), {"loss": loss}, steps, corrected=corrected)

    def gradient(
        self,
        weights: Weights,
        data: Dataset[Any],
        training: Training,
        seed: int,
        progress: Progress,
    ) -> Trained:
        """Of the mean loss, in train mode: the mean of the batches' gradients by their samples, and
        weight decay. The metric `loss` is the mean. Of running statistics: before minus after."""
        model = self._model_with(weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            slopes, loss = self._mean_gradient(model, data, training, progress)
        after = weights_of(model)
        found = {name: before - after[name] for name, before in weights.items()}
        statistics = set(found)
        # Two names may be one tensor, and each carries the whole gradient of it.
        for name, p in model.named_parameters(remove_duplicate=False):
            if p in slopes and name in found:
                slope = slopes[p].add(p.detach(), alpha=training.weight_decay)
                found[name] = slope.to(torch.float32).numpy()
                statistics.discard(name)
        return Trained(
            found, _count(data), {"loss": loss}, steps=1, statistics=frozenset(statistics)
        )

    def evaluate(self, weights: Weights, data: Dataset[Any]) -> Evaluated:
        model = self._model_with(weights).eval()
        class_count = len(self._class_names)
        confusion = np.zeros((class_count, class_count), np.int64)
        sums: dict[str, float] = {}
        with torch.inference_mode():
            for inputs, targets in _batches(data, _in_order(_count(data), _EVALUATION_BATCH)):
                outputs = model(inputs)
                for name, mean in self._measure(outputs, targets).items():
                    sums[name] = sums.get(name, 0.0) + mean * len(targets)
                if class_count:
                    confusion += _confusion(outputs, targets, class_count)
        metrics = {name: total / _count(data) for name, total in sums.items()}
        if not class_count:
            return Evaluated(_count(data), metrics, None)
        metrics["accuracy"] = float(np.trace(confusion) / _count(data))
        return Evaluated(_count(data), metrics, confusion.tolist())

    def _descend(
        self,
        model: torch.nn.Module,
        sgd: "_Sgd",
        data: Dataset[Any],
        training: Training,
        seed: int,
        progress: Progress,
    ) -> tuple[float, int]:
        """Change `model` by `training.epochs` passes, or by fewer where `progress` has enough; the
        mean loss of the last one, and how many steps it were."""
        shuffling = torch.Generator().manual_seed(seed)
        count = _count(data)
        epoch_loss, seen, steps = 0.0, 0, 0
        model.train()
        for epoch in range(training.epochs):
            epoch_loss, seen = 0.0, 0
            order = shuffled(count, training.batch_size, shuffling)
            for inputs, targets in _batches(data, order):
                loss = self._backward(model, inputs, targets)
                sgd.step()
                seen += len(targets)
                steps += 1
                if not math.isfinite(loss):
                    raise diverged(loss, epoch, training)
                epoch_loss += loss * len(targets)
                if progress((epoch + seen / count) / training.epochs):
                    return epoch_loss / seen, steps
        return epoch_loss / count, steps

    def _mean_gradient(
        self,
        model: torch.nn.Module,
        data: Dataset[Any],
        training: Training,
        progress: Progress,
    ) -> tuple[dict[Tensor, Tensor], float]:
        """By parameter, over all samples, a batch at a time; and the mean loss."""
        sums = {p: torch.zeros_like(p) for p in model.parameters() if p.requires_grad}
        count, seen, total = _count(data), 0, 0.0
        model.train()
        for inputs, targets in _batches(data, cut(torch.arange(count), training.batch_size)):
            loss = self._backward(model, inputs, targets)
            if not math.isfinite(loss):
                raise diverged(loss, 0, training)
            for p, slope in sums.items():
                if p.grad is not None:
                    slope.add_(p.grad, alpha=len(targets))
            total += loss * len(targets)
            seen += len(targets)
            progress(seen / count)
        return {p: slope.div_(count) for p, slope in sums.items()}, total / count

    def _backward(self, model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> float:
        """The loss of one batch; its gradient is in the parameters."""
        model.zero_grad()
        loss = self.file.loss(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        measured = {"loss": self.file.loss(outputs, targets).item()}
        if self._metrics is not None:
            measured |= self._metrics(outputs, targets)
        return measured

    def _model_with(self, weights: Weights) -> torch.nn.Module:
        # The fresh model's own weights are drawn only to be replaced; the draw must not show.
        with torch.random.fork_rng(devices=[]):
            model = self.file.build_model()
        put_weights(model, weights)
        return model


class _Sgd:
    """Stochastic gradient descent with momentum and weight decay, as `torch.optim.SGD` has it, and
    on the gradient with FedProx's proximal term, mu (w - w_base), or SCAFFOLD's correction.

    Written out because the first use of `torch.optim` imports 800 modules (the compiler, sympy):
    0.7 s of CPU where this was measured, in a process that often trains for less than that.
    """

    def __init__(self, model: torch.nn.Module, training: Training, correction: Weights) -> None:
        self._training = training
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._parameters = [p for _, p in named]
        self._correction = [
            torch.from_numpy(np.array(correction[name])).to(p.dtype) if name in correction else None
            for name, p in named
        ]
        self._velocities = [torch.zeros_like(p) for p in self._parameters]
        # A copy of the model, for who needs one.
        self._base = [p.detach().clone() for p in self._parameters if training.proximal]

    @torch.no_grad()
    def step(self) -> None:
        # For small models each operation counts, so none is made that changes nothing.
        training = self._training
        for i, (parameter, velocity) in enumerate(
            zip(self._parameters, self._velocities, strict=True)
        ):
            gradient, correction = parameter.grad, self._correction[i]
            if gradient is None:
                if correction is None:
                    continue
                gradient = torch.zeros_like(parameter)
            if correction is not None:
                gradient = gradient.add(correction)
            if training.weight_decay:
                gradient = gradient.add(parameter, alpha=training.weight_decay)
            if training.proximal:
                away = parameter - self._base[i]
                gradient = gradient.add(away, alpha=training.proximal)
            if training.momentum:
                gradient = velocity.mul_(training.momentum).add_(gradient)
            parameter.sub_(gradient, alpha=training.learning_rate)


def weights_of(model: torch.nn.Module) -> Weights:
    """A copy of the floating-point entries of the model's state, as float32, in its order."""
    return {
        name: tensor.detach().to(torch.float32).numpy().copy()
        for name, tensor in _federated(model).items()
    }


def put_weights(model: torch.nn.Module, weights: Weights) -> None:
    """Write `weights` into the model, each cast to the type that its entry has there.

    Raises `TaskError` where names or shapes are not those of the model.
    """
    entries = _federated(model)
    shapes = {name: tuple(entry.shape) for name, entry in entries.items()}
    given = {name: array.shape for name, array in weights.items()}
    if given != shapes:
        wrong = sorted(set(given.items()) ^ set(shapes.items()))[0][0]
        raise TaskError(
            f"the weights do not fit the task's model, first at {wrong}: the model has "
            f"{shapes.get(wrong, 'nothing')} there, the weights {given.get(wrong, 'nothing')}; "
            "client and coordinator must run the same task file"
        )
    with torch.no_grad():
        for name, entry in entries.items():
            # Copied first: weights from the network are read-only views, which torch warns about.
            entry.copy_(torch.from_numpy(np.array(weights[name])))


def corrected_in(model: torch.nn.Module) -> tuple[str, ...]:
    """The names of what SGD moves, both of a tensor that has two."""
    named = model.named_parameters(remove_duplicate=False)
    return tuple(name for name, p in named if p.requires_grad)


def _federated(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in model.state_dict().items() if t.is_floating_point()}


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Positions 0 to count - 1 in random order, cut into batches; none has a single sample.

    BatchNorm cannot train on one sample, and whether a device has one too many is chance, so a
    single sample left over joins the batch before it.
    """
    return cut(torch.randperm(count, generator=generator), batch_size)


def cut(positions: Tensor, batch_size: int) -> list[Tensor]:
    """Into batches in their order; none has a single sample, as in `shuffled`."""
    batches = list(torch.split(positions, batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _in_order(count: int, batch_size: int) -> list[Tensor]:
    return list(torch.split(torch.arange(count), batch_size))


def _batches(dataset: Dataset[Any], order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    # A subclass may change its items as they are fetched, so only the plain class is indexed.
    if type(dataset) is TensorDataset:
        # One indexing per batch. A DataLoader fetches item by item, which takes longer than
        # training a small model on them.
        inputs, targets = dataset.tensors
        for positions in order:
            yield inputs[positions], targets[positions]
    else:
        yield from DataLoader(dataset, batch_sampler=[batch.tolist() for batch in order])


def _confusion(outputs: Tensor, targets: Tensor, class_count: int) -> Any:
    """Counts of (true class, predicted class), shape (class_count, class_count)."""
    # Numbers of one byte, which torch takes for classes too, would run over.
    pairs = targets.long() * class_count + outputs.argmax(dim=1)
    counts = torch.bincount(pairs, minlength=class_count**2)
    return counts.reshape(class_count, class_count).numpy()


def _count(dataset: Dataset[Any]) -> int:
    return len(cast(TensorDataset, dataset))


def diverged(loss: float, epoch: int, training: Training) -> TaskError:
    return TaskError(
        f"the loss became {loss} in epoch {epoch + 1}: lower the learning rate "
        f"(now {training.learning_rate}), or look for values that are not finite in the data"
    )

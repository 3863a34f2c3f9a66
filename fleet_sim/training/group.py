"""A group of clients trained in one go: the same steps as `TorchTask.train`, for all at once.

Every client goes through its own batches in its own order. All take a step at the same moment, on
weights that lie side by side; who has fewer samples is finished sooner:

    ann   ██████████████████████▌      a step of the whole group: one recording, see `step`
    bob   ███████████████▌             ▌ the last batch of an epoch, smaller than the others:
    cat   ████▌                          a step of this client alone

What comes out differs from training alone by rounding: sums are taken in another order. Relative to
the length of its change a client of the phone-and-watch model, of McMahan's 2NN or CNN is off 1e-6.
A few in a hundred are off 1e-4 to 3e-2: there a unit of a ReLU was so near zero that rounding
decided whether it was on. The same happens alone when the weights it starts from change by 3e-7.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.data import Dataset, TensorDataset

from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from fleet_sim.training.step import Loss, Product, Step, record
from learning_tasks.seam import TaskError, Trained
from learning_tasks.torch_training import TorchTask, cut, diverged, put_weights, shuffled

TOLERANCE = 1e-3
"""Most clients' changes are the same together and alone to this part of their length. With a model
that a group treats wrongly, all are off by tenths."""


class NotTogether(Exception):
    """This model, or this data, can only be trained one client at a time; says why."""


def difference(alone: Weights, together: Weights, base: Weights) -> float:
    """How far apart two trained models are, relative to the length of the change."""
    apart = sum(float(np.square(alone[name] - together[name]).sum()) for name in base)
    change = sum(float(np.square(alone[name] - base[name]).sum()) for name in base)
    return 0.0 if apart == 0 else float(np.sqrt(apart / change)) if change else float("inf")


class Group:
    """Trains groups of clients of one task. Keeps what it recorded for the next group."""

    def __init__(self, task: TorchTask, device: str = "cpu") -> None:
        self._task = task
        self._device = torch.device(device)
        self._steps: dict[tuple[object, ...], Step] = {}
        with torch.random.fork_rng(devices=[]):
            self._model = task.file.build_model().to(self._device).train()
        self._names = [name for name, p in self._model.named_parameters() if p.requires_grad]

    def train(
        self,
        base: Weights,
        clients: Sequence[Dataset[Any]],
        seeds: Sequence[int],
        training: Training,
        *,
        steps_max: Sequence[int] = (),
        own: Sequence[Weights] = (),
        gradient: bool = False,
        corrections: Sequence[Weights] = (),
    ) -> list[Trained | str]:
        """What `task.train` returns for each client, or with `gradient` what `task.gradient` does,
        or the sentence of its `TaskError`.

        Of each client, where it is given: after how many steps it stops (0: none too many), the
        layers of its own, in place of those of the base, and what is added to each gradient.

        Raises NotTogether; then nothing was trained.
        """
        put_weights(self._model, base)
        self._check(base)
        self._check_own(own)
        with _repeatable(self._device), torch.no_grad():
            try:
                tensors = [_tensors(data) for data in clients]
                plans = [
                    _plan_of_gradient(len(targets), training)
                    if gradient
                    else _plan(len(targets), training, seed, most)
                    for (_, targets), seed, most in zip(
                        tensors, seeds, steps_max or [0] * len(clients), strict=True
                    )
                ]
                run = self._run_of(
                    base, tensors, plans, training, own, corrections, gradient=gradient
                )
                self._descend(run)
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                raise NotTogether(_first_sentence(error)) from error
        starts = [base | its for its in own] if own else [base] * len(clients)
        return [self._result(run, start, i) for i, start in enumerate(starts)]

    def _check(self, base: Weights) -> None:
        own = dict(self._model.named_parameters())
        if not self._names:
            raise NotTogether("the model has nothing to train")
        if any(isinstance(part, torch.nn.RNNBase) for part in self._model.modules()):
            # torch would go through the clients one by one inside each step. An LSTM of 26,000
            # numbers took six times as long as alone.
            raise NotTogether("it has a recurrent layer (RNN, LSTM or GRU)")
        if any(own[name].dtype != torch.float32 for name in self._names):
            raise NotTogether("not all of the model is float32")
        if missing := [name for name in self._names if name not in base]:
            raise NotTogether(f"{missing[0]} is not part of the model's state")
        if len(list(self._model.named_parameters(remove_duplicate=False))) != len(own):
            raise NotTogether("two layers of the model share one tensor")

    def _check_own(self, own: Sequence[Weights]) -> None:
        if still := {name for its in own for name in its} - set(self._names):
            raise NotTogether(f"clients differ in {min(still)}, which is not trained")

    def _run_of(
        self,
        base: Weights,
        clients: Sequence[tuple[Tensor, Tensor]],
        plans: Sequence["_Plan"],
        training: Training,
        own: Sequence[Weights],
        corrections: Sequence[Weights],
        *,
        gradient: bool,
    ) -> "_Run":
        # Who has the most steps comes first, so that those who are not yet finished are the first
        # rows of every tensor, which can be had without a copy.
        order = sorted(range(len(clients)), key=lambda i: -plans[i].full_count(training))
        parameters = [
            torch.from_numpy(np.array(base[name]))
            .to(self._device)
            .expand(len(clients), *base[name].shape)
            .clone()
            for name in self._names
        ]
        for row, i in enumerate(order if own else ()):
            for name, p in zip(self._names, parameters, strict=True):
                if name in own[i]:
                    p[row] = torch.from_numpy(np.array(own[i][name]))
        return _Run(
            training,
            [plans[i] for i in order],
            [order.index(i) for i in range(len(clients))],
            parameters,
            [torch.zeros_like(p) for p in parameters] if training.momentum else None,
            [p.clone() for p in parameters] if training.proximal else None,
            [torch.zeros_like(p) for p in parameters] if gradient else None,
            self._side_by_side([corrections[i] for i in order]) if corrections else None,
            torch.cat([clients[i][0] for i in order]).to(self._device),
            torch.cat([clients[i][1] for i in order]).to(self._device),
        )

    def _side_by_side(self, of_clients: Sequence[Weights]) -> list[Tensor]:
        return [
            torch.from_numpy(np.stack([its[name] for its in of_clients])).to(self._device)
            for name in self._names
        ]

    def _descend(self, run: "_Run") -> None:
        batch_size = run.training.batch_size
        positions = _full_batches(run).to(self._device)
        for moment in range(positions.shape[1] + 1):
            for row in range(len(run.plans)):
                run.take_odd_steps(row, self._loss)
            for begin, end in _chunks(run.active_count(moment), len(run.plans)):
                chosen = positions[begin:end, moment]
                inputs, targets = run.inputs[chosen], run.targets[chosen]
                parameters = [p[begin:end] for p in run.parameters]
                key = (end - begin, inputs.shape, inputs.dtype, targets.shape, targets.dtype)
                if key not in self._steps:
                    self._steps[key] = record(self._loss, parameters, inputs, targets)
                gradients, losses = self._steps[key](parameters, inputs, targets)
                run.update(slice(begin, end), gradients, batch_size)
                for row, loss in zip(range(begin, end), losses.unbind(), strict=True):
                    run.losses[row].append((loss, batch_size))

    def _loss(self, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        named = dict(zip(self._names, parameters, strict=True))
        return self._task.file.loss(functional_call(self._model, named, (inputs,)), targets)

    def _result(self, run: "_Run", base: Weights, client: int) -> Trained | str:
        row = run.row_of[client]
        try:
            loss = run.mean_loss(row)
        except TaskError as error:
            return str(error)
        plan, metrics = run.plans[row], {"loss": loss}
        if run.sums is not None:
            found = {name: np.zeros_like(array) for name, array in base.items()}
            found |= self._named(run.gradients(row))
            return Trained(found, plan.sample_count, metrics, steps=1)
        weights = base | self._named([p[row] for p in run.parameters])
        corrected = () if run.corrections is None else tuple(self._names)
        steps = len(plan.batches)
        return Trained(weights, plan.sample_count, metrics, steps, corrected=corrected)

    def _named(self, tensors: Sequence[Tensor]) -> Weights:
        return {
            name: tensor.cpu().numpy() for name, tensor in zip(self._names, tensors, strict=True)
        }


@dataclass(frozen=True, slots=True)
class _Plan:
    """The batches of one client: positions in its own data, epoch after epoch."""

    sample_count: int
    batches: list[tuple[int, Tensor]]  # (epoch, positions)

    def full_count(self, training: Training) -> int:
        return sum(len(batch) == training.batch_size for _, batch in self.batches)


@dataclass(slots=True)
class _Run:
    """One training of one group. Rows are clients, those with the most full batches first."""

    training: Training
    plans: list[_Plan]
    row_of: list[int]
    parameters: list[Tensor]  # each (clients, ...)
    velocities: list[Tensor] | None
    bases: list[Tensor] | None  # as `parameters`: where they began, for a proximal term
    sums: list[Tensor] | None  # as `parameters`: of the gradients, where nothing else is asked for
    corrections: list[Tensor] | None  # as `parameters`: what is added to each gradient
    inputs: Tensor  # of all clients, one after the other
    targets: Tensor
    losses: list[list[tuple[Tensor, int]]] = field(init=False)
    _full_counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.losses = [[] for _ in self.plans]
        self._full_counts = [plan.full_count(self.training) for plan in self.plans]

    def active_count(self, moment: int) -> int:
        """How many clients take a full step at this moment: they are the first rows."""
        return sum(count > moment for count in self._full_counts)

    def offset(self, row: int) -> int:
        return sum(plan.sample_count for plan in self.plans[:row])

    def take_odd_steps(self, row: int, loss_of: Loss) -> None:
        """The steps of a client, up to its next full one, on batches that are not full."""
        losses = self.losses[row]
        for _, batch in self.plans[row].batches[len(losses) :]:
            if len(batch) == self.training.batch_size:
                return
            chosen = (batch + self.offset(row)).to(self.inputs.device)
            leaves = [p[row].detach().requires_grad_() for p in self.parameters]
            with torch.enable_grad():
                loss = loss_of(leaves, self.inputs[chosen], self.targets[chosen])
                gradients = torch.autograd.grad(loss, leaves)
            together = [gradient.unsqueeze(0) for gradient in gradients]
            self.update(slice(row, row + 1), together, len(batch))
            losses.append((loss.detach(), len(batch)))

    def update(self, rows: slice, gradients: Sequence[Tensor | Product], samples: int) -> None:
        """Momentum, weight decay and so on as `TorchTask` has them. `gradients` are means
        over so many samples of each client."""
        training = self.training
        rate, decay = training.learning_rate, training.weight_decay
        for i, gradient in enumerate(gradients):
            if self.sums is not None:
                _add(self.sums[i][rows], gradient, keep=1, times=samples)
                continue
            p = self.parameters[i][rows]
            away = None if self.bases is None else p - self.bases[i][rows]
            correction = None if self.corrections is None else self.corrections[i][rows]
            if self.velocities is None:
                _add(p, gradient, keep=1 - rate * decay, times=-rate)
                if away is not None:
                    p.add_(away, alpha=-rate * training.proximal)
                if correction is not None:
                    p.add_(correction, alpha=-rate)
                continue
            velocity = self.velocities[i][rows]
            _add(velocity, gradient, keep=training.momentum, times=1.0)
            if decay:
                velocity.add_(p, alpha=decay)
            if away is not None:
                velocity.add_(away, alpha=training.proximal)
            if correction is not None:
                velocity.add_(correction)
            p.add_(velocity, alpha=-rate)

    def gradients(self, row: int) -> list[Tensor]:
        """Means over all samples of one client, with weight decay."""
        assert self.sums is not None
        count, decay = self.plans[row].sample_count, self.training.weight_decay
        return [
            (total[row] / count).add_(p[row], alpha=decay)
            for total, p in zip(self.sums, self.parameters, strict=True)
        ]

    def mean_loss(self, row: int) -> float:
        """Of the last epoch, as far as it went. Raises `TaskError` where a loss of any epoch is not
        finite."""
        plan = self.plans[row]
        values = torch.stack([loss for loss, _ in self.losses[row]]).tolist()
        total, seen = 0.0, 0
        for (epoch, batch), loss in zip(plan.batches, values, strict=True):
            if not np.isfinite(loss):
                raise diverged(loss, epoch, self.training)
            if epoch == plan.batches[-1][0]:
                total += loss * len(batch)
                seen += len(batch)
        return total / seen


def _plan(sample_count: int, training: Training, seed: int, steps_max: int) -> _Plan:
    shuffling = torch.Generator().manual_seed(seed)
    batches = [
        (epoch, batch)
        for epoch in range(training.epochs)
        for batch in shuffled(sample_count, training.batch_size, shuffling)
    ]
    return _Plan(sample_count, batches[:steps_max] if steps_max else batches)


def _plan_of_gradient(sample_count: int, training: Training) -> _Plan:
    batches = cut(torch.arange(sample_count), training.batch_size)
    return _Plan(sample_count, [(0, batch) for batch in batches])


def _full_batches(run: _Run) -> Tensor:
    """Positions in the group's data, shape (clients, most full batches, batch size)."""
    full = [
        [
            batch + run.offset(row)
            for _, batch in plan.batches
            if len(batch) == run.training.batch_size
        ]
        for row, plan in enumerate(run.plans)
    ]
    positions = torch.zeros(len(full), len(full[0]), run.training.batch_size, dtype=torch.int64)
    for row, batches in enumerate(full):
        if batches:
            positions[row, : len(batches)] = torch.stack(batches)
    return positions


def _chunks(active: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut the first `active` of `size` rows into the whole, halves, quarters, ...

    Each length needs a recording of its own, which takes as long as a hundred steps.
    """
    begin = 0
    while begin < active:
        while size > active - begin:
            size = (size + 1) // 2 if size > 1 else 1
        yield begin, begin + size
        begin += size


def _add(into: Tensor, gradient: Tensor | Product, *, keep: float, times: float) -> None:
    """into = keep * into + times * gradient."""
    if isinstance(gradient, Product):
        into.baddbmm_(gradient.left, gradient.right, beta=keep, alpha=times)
        return
    if keep != 1:
        into.mul_(keep)
    into.add_(gradient, alpha=times)


def _tensors(data: Dataset[Any]) -> tuple[Tensor, Tensor]:
    # A subclass may change its items as they are fetched, by chance too.
    if type(data) is not TensorDataset or len(data.tensors) != 2:
        raise ValueError("its data is not a TensorDataset of inputs and targets")
    return data.tensors[0], data.tensors[1]


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].split(". ", 1)[0].rstrip(".")


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """On a GPU: the same bits every time, and float32 as on a CPU."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=False):
        yield

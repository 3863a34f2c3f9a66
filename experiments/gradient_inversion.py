"""Images from an update: what a curious server does.

It knows the model, the labels, how many images each client has, how they train, to which norm
changes are clipped, and which numbers were sent; not the images.

  by division   A layer y = W x + b has dL/dW[j] = dL/dy[j] * x and dL/db[j] = dL/dy[j]: the one
                divided by the other is x. Here over all j at once, by least squares. Exact for one
                image, however many steps it was trained for.
                Phong et al., "Privacy-Preserving Deep Learning: Revisited and Enhanced", 2017
  by curvature  The images that most likely gave what is seen, noise and digits being normal, by
                Gauss and Newton's steps with Levenberg and Marquardt's damping, through all steps
                of the training. Exact where there is more to see than there are pixels; takes
                pixels^2 * numbers operations a step.
  by descent    The same by L-BFGS, which is less exact and takes large images.
                Zhu, Liu, Han, "Deep Leakage from Gradients", NeurIPS 2019
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacfwd, vmap

from experiments.digits import CLASSES

Tensors = Mapping[str, Tensor]

HIDDEN = 64
RECOVERED = 0.002
"""Mean square error below which an image counts as recovered. Of digits of 8 x 8 pixels 6% have
another in the gallery that is as near; the median of the nearest is 0.016."""
_CURVATURE_STEPS = 40
_ENOUGH = 1e-4
"""Of what was reached: a step that brings less is the last."""
_DAMPING, _DAMPING_MIN, _DAMPING_MAX = 1e-2, 1e-16, 1e6
_VARIANCE_MIN = 1e-4
"""Of pixels that are the same in all images: a victim's need not be."""
_SMALLEST = 1e-12
"""Of a norm that is divided by."""


def model_of(side: int, seed: int) -> nn.Sequential:
    """Images (n, side * side) to scores (n, 10), by 64 hidden units, in float64. Untrained."""
    torch.manual_seed(seed)
    layers = (nn.Linear(side * side, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    return nn.Sequential(*layers).double()


@dataclass(frozen=True, slots=True)
class Training:
    """What every client does, and the server knows."""

    model: nn.Module
    labels: Tensor
    """Of each client's images, shape (clients, images)."""
    epochs: int = 1
    """Each a step on all images of the client."""
    rate: float = 0.1
    norm_max: float = 0.0
    """A longer change is made as long; 0: none is."""

    def changes(self, images: Tensor) -> Tensor:
        """Of the model's numbers, shape (clients, numbers); images: (clients, images, pixels).

        It can be differentiated by the images.
        """
        found: Tensor = vmap(self.change)(images, self.labels)
        return found

    def change(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of one client, shape (numbers,)."""
        first: Tensors = {name: one.detach() for name, one in self.model.named_parameters()}

        def loss(numbers: Tensors) -> Tensor:
            scores = functional_call(self.model, dict(numbers), (images,))
            return nn.functional.cross_entropy(scores, labels)

        now = first
        for _ in range(self.epochs):
            slopes = grad(loss)(now)
            now = {name: one - self.rate * slopes[name] for name, one in now.items()}
        found = torch.cat([(now[name] - one).flatten() for name, one in first.items()])
        if not self.norm_max:
            return found
        shrunk: Tensor = found * (self.norm_max / found.norm().clamp_min(_SMALLEST)).clamp_max(1)
        return shrunk


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server has of the sum of the changes."""

    values: Tensor
    """float64, shape (n,)."""
    places: Tensor | None = None
    """Where in the change they stand, shape (n,); None: they are all there."""
    deviation: float = 1e-8
    """Of the noise on each number, or of what rounding does to it; the server knows it."""

    def of(self, change: Tensor) -> Tensor:
        return change if self.places is None else change[self.places]


@dataclass(frozen=True, slots=True)
class Prior:
    """What digits look like, as anybody knows it: a normal distribution."""

    mean: Tensor
    axes: Tensor
    """Uncorrelated directions as long as their standard deviations, shape (size, pixels)."""

    @property
    def size(self) -> int:
        return len(self.axes)

    def images(self, hidden: Tensor) -> Tensor:
        """Of standard normal numbers, shape (..., size)."""
        return self.mean + hidden @ self.axes


def prior_of(images: Tensor) -> Prior:
    """images: (n, pixels), of others than the victims."""
    mean = images.mean(0)
    variances, axes = torch.linalg.eigh((images - mean).T @ (images - mean) / len(images))
    deviations = variances.clamp_min(_VARIANCE_MIN).sqrt()
    return Prior(mean, (axes * deviations).T)


def by_division(change: Tensor, pixels: int, hidden: int = HIDDEN) -> Tensor:
    """An image, shape (pixels,), from a change of a model whose first layer is a linear one with
    so many units."""
    weights = change[: hidden * pixels].reshape(hidden, pixels)
    biases = change[hidden * pixels :][:hidden]
    found: Tensor = biases @ weights / biases.square().sum()
    return found


def by_curvature(seen: Seen, training: Training, prior: Prior, seed: int) -> Tensor:
    """Images in [0, 1], shape (clients, images, pixels)."""

    def change(hidden: Tensor, labels: Tensor) -> Tensor:
        return seen.of(training.change(prior.images(hidden), labels)) / seen.deviation

    def misses(hidden: Tensor) -> Tensor:
        found: Tensor = vmap(change)(hidden, training.labels)
        return found.sum(0) - seen.values / seen.deviation

    def cost(hidden: Tensor) -> float:
        return float(misses(hidden).square().sum() + hidden.square().sum())

    hidden = _start(training, prior, seed)
    damping, now = _DAMPING, cost(hidden)
    for _ in range(_CURVATURE_STEPS):
        slopes = vmap(jacfwd(change))(hidden, training.labels)
        slopes = slopes.transpose(0, 1).flatten(1)
        curvature = slopes.T @ slopes
        downhill = -(slopes.T @ misses(hidden) + hidden.flatten())
        before = now
        while damping < _DAMPING_MAX:
            step = _damped(curvature, downhill, damping).reshape(hidden.shape)
            now = cost(hidden + step)
            if now < before:
                break
            damping *= 4
        else:
            break
        hidden, damping = hidden + step, max(damping / 8, _DAMPING_MIN)
        if before - now < _ENOUGH * before:
            break
    return prior.images(hidden).clamp(0, 1)


def _damped(curvature: Tensor, downhill: Tensor, damping: float) -> Tensor:
    bent = curvature.clone()
    # 1: of the prior, whose numbers have a variance of 1.
    bent.diagonal().add_(1 + damping * curvature.diagonal().mean())
    found: Tensor = torch.cholesky_solve(downhill[:, None], torch.linalg.cholesky(bent))
    return found[:, 0]


def by_descent(
    seen: Seen, training: Training, prior: Prior, seed: int, iterations: int = 600
) -> Tensor:
    """Images in [0, 1], shape (clients, images, pixels)."""
    hidden = _start(training, prior, seed).requires_grad_()
    scale = seen.values.square().sum().clamp_min(_SMALLEST)
    search = torch.optim.LBFGS(
        [hidden],
        max_iter=iterations,
        history_size=50,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def cost() -> Tensor:
        search.zero_grad()
        misses = seen.of(training.changes(prior.images(hidden)).sum(0)) - seen.values
        found = misses.square().sum() + seen.deviation**2 * hidden.square().sum()
        found = found / scale
        found.backward()  # type: ignore[no-untyped-call]
        return found

    search.step(cost)  # type: ignore[no-untyped-call]
    return prior.images(hidden.detach()).clamp(0, 1)


def _start(training: Training, prior: Prior, seed: int) -> Tensor:
    # Not all the same: two clients with the same digit would stay alike for ever.
    chance = torch.Generator().manual_seed(seed)
    shape = (*training.labels.shape, prior.size)
    return 0.1 * torch.randn(shape, generator=chance, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Found:
    """How near an attack came."""

    errors: tuple[float, ...]
    """Mean square error of each victim's image."""
    identified: int
    """Victims whose image is the nearest, of all in the gallery, to what was found of them."""

    @property
    def recovered(self) -> int:
        return sum(error < RECOVERED for error in self.errors)


def judge(found: Tensor, victims: Tensor, gallery: Tensor) -> tuple[Found, Tensor]:
    """Also what was found, in the victims' order. found, victims: (n, pixels); the victims are in
    the gallery. Who belongs to whom is told by nobody: nearest pairs first."""
    apart = _errors(found, victims)
    order = torch.empty(len(victims), dtype=torch.long)
    errors = torch.empty(len(victims), dtype=torch.float64)
    for _ in victims:
        place = int(apart.argmin())
        mine, victim = divmod(place, len(victims))
        order[victim], errors[victim] = mine, apart[mine, victim]
        apart[mine] = apart[:, victim] = torch.inf
    nearest = gallery[_errors(found[order], gallery).argmin(1)]
    # Of each its own: what is nearly white would else be taken for the lightest of the victims.
    identified = int((nearest == victims).all(1).sum())
    return Found(tuple(errors.tolist()), identified), found[order]


def _errors(some: Tensor, others: Tensor) -> Tensor:
    """Mean square errors, shape (some, others)."""
    # In the exact form: the one by products finds 1e-17 where there is 0.
    apart = torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.square() / some.shape[1]

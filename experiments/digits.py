"""Digits to attack: of MNIST, whole or as 8 x 8 pixels, or drawn, where there is no MNIST."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learning_tasks import mnist_files

CLASSES = len(mnist_files.CLASS_NAMES)
GALLERY = 2000
"""Images of which an attacker knows that the victims are among them."""

_BORDER = 2
_SQUARE = 3
_SEGMENTS = (
    "abcdef",
    "bc",
    "abged",
    "abgcd",
    "fgbc",
    "afgcd",
    "afgedc",
    "abc",
    "abcdefg",
    "abcdfg",
)
"""That a display of seven lights up for each digit."""
_LIT = {
    "a": (slice(0, 1), slice(1, 4)),
    "b": (slice(1, 3), slice(4, 5)),
    "c": (slice(4, 6), slice(4, 5)),
    "d": (slice(6, 7), slice(1, 4)),
    "e": (slice(4, 6), slice(0, 1)),
    "f": (slice(1, 3), slice(0, 1)),
    "g": (slice(3, 4), slice(1, 4)),
}


@dataclass(frozen=True, slots=True)
class Digits:
    name: str
    images: Tensor
    """float64, from 0 to 1, shape (n, side * side); n is GALLERY, or as many as there are."""
    labels: Tensor
    """Which digits they are, shape (n,)."""

    @property
    def side(self) -> int:
        return int(self.images.shape[1] ** 0.5)

    @property
    def mean_error(self) -> float:
        """Mean square error of who guesses the mean image."""
        return float((self.images - self.images.mean(0)).square().mean())


def mnist(folder: Path) -> Digits:
    """28 x 28. Raises TaskError, as all that read MNIST."""
    images, labels = _read(folder)
    return Digits("mnist", images.flatten(1), labels)


def small(folder: Path) -> Digits:
    """8 x 8: means of 3 x 3 pixels, without the border that MNIST leaves. Raises TaskError."""
    images, labels = _read(folder)
    inner = images[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    side = inner.shape[1] // _SQUARE
    squares = inner.reshape(-1, side, _SQUARE, side, _SQUARE)
    return Digits("8x8", squares.mean(dim=(2, 4)).flatten(1), labels)


def drawn(seed: int = 0) -> Digits:
    """8 x 8: a display of seven lights, somewhere, of uneven brightness."""
    chance = np.random.default_rng(seed)
    labels = np.arange(GALLERY) % CLASSES
    images = np.zeros((GALLERY, 8, 8))
    for image, label in zip(images, labels, strict=True):
        down, right = chance.integers(0, 2), chance.integers(0, 4)
        for segment in _SEGMENTS[label]:
            image[down : down + 7, right : right + 5][_LIT[segment]] = chance.uniform(0.5, 1)
    images += chance.uniform(0, 0.2, images.shape)
    return Digits("drawn", torch.from_numpy(images / 1.2).flatten(1), torch.from_numpy(labels))


def _read(folder: Path) -> tuple[Tensor, Tensor]:
    images, labels = mnist_files.read(folder, "test")
    return torch.from_numpy(images[:GALLERY]).double(), torch.from_numpy(labels[:GALLERY])

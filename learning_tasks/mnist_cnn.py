"""Which digit is it? The convolutional network of the paper that named federated averaging.

The data is the pool of `mnist_2nn`, as images with one channel.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, section 3.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from learning_tasks import mnist_files
from learning_tasks.pool import Pool

CLASS_NAMES = mnist_files.CLASS_NAMES


def build_model() -> nn.Module:
    """Images (n, 1, 28, 28) to scores (n, 10); 1,663,370 numbers.

    The paper gives that count, and with it that the convolutions pad: unpadded, the hidden layer
    would see 4 by 4 instead of 7 by 7.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 512),
        nn.ReLU(),
        nn.Linear(512, len(CLASS_NAMES)),
    )


def load_pool(data_dir: Path, purpose: str) -> Pool:
    """60,000 digits to train on, 10,000 to test on: images (n, 1, 28, 28) from 0 to 1."""
    images, digits = mnist_files.read(data_dir, purpose)
    return Pool(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(digits))


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)

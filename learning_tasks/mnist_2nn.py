"""Which digit is it? The "2NN" of the paper that named federated averaging, on MNIST.

The data is one pool, to be split among made-up clients: the four files of MNIST in `data_dir`, see
`mnist_files`. The paper's federation has 100 clients with 600 digits each, ten a round, one epoch,
batches of 10. It reaches 0.97 on the test digits after 87 rounds where clients hold all digits
alike, and after 664 where each was dealt two shards of the sorted digits (table 1).

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
    """Images (n, 784) to scores (n, 10): two hidden layers of 200 units; 199,210 numbers."""
    return nn.Sequential(
        nn.Linear(28 * 28, 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, len(CLASS_NAMES)),
    )


def load_pool(data_dir: Path, purpose: str) -> Pool:
    """60,000 digits to train on, 10,000 to test on: images (n, 784) from 0 to 1. Nobody owns any.

    Who wrote them was not published.
    """
    images, digits = mnist_files.read(data_dir, purpose)
    return Pool(torch.from_numpy(images).flatten(1), torch.from_numpy(digits))


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)

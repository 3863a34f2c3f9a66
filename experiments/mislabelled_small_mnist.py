"""Small MNIST as a client has it who calls each digit another: class c is class 9 - c.

See `attacks.py`.
"""

from dataclasses import replace
from pathlib import Path

from experiments import small_mnist
from experiments.small_mnist import CLASS_NAMES, build_model, loss
from learning_tasks.pool import Pool

__all__ = ["CLASS_NAMES", "build_model", "load_pool", "loss"]


def load_pool(data_dir: Path, purpose: str) -> Pool:
    pool = small_mnist.load_pool(data_dir, purpose)
    return replace(pool, targets=len(CLASS_NAMES) - 1 - pool.targets)

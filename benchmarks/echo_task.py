"""A task that learns nothing: it returns the model plus tiny noise, trained on 100 samples.

`FEDMQTT_BENCH_PARAMS` says how large the model is.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedmqtt.messages import Training
from fedmqtt.weights import Array, Weights
from learning_tasks.seam import Evaluated, Trained

SAMPLES = 100

_SHAPES: dict[int, dict[str, tuple[int, ...]]] = {
    # The two networks of McMahan et al. 2017 on MNIST: the 2NN and the CNN.
    199_210: {
        "hidden1.weight": (200, 784),
        "hidden1.bias": (200,),
        "hidden2.weight": (200, 200),
        "hidden2.bias": (200,),
        "out.weight": (10, 200),
        "out.bias": (10,),
    },
    1_663_370: {
        "conv1.weight": (32, 1, 5, 5),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 5, 5),
        "conv2.bias": (64,),
        "hidden.weight": (512, 3136),
        "hidden.bias": (512,),
        "out.weight": (10, 512),
        "out.bias": (10,),
    },
}


def initial_weights(seed: int) -> Weights:
    params = int(os.environ["FEDMQTT_BENCH_PARAMS"])
    shapes = _SHAPES.get(params, {"weight": (params,)})
    chance = np.random.default_rng(seed)
    return {name: chance.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def load_data(data_dir: Path, client: str, purpose: str) -> str:
    return client


def train(
    weights: Weights,
    data: str,
    training: Training,
    seed: int,
    progress: Callable[[float], None],
) -> Trained:
    trained = {name: array + _noise(array.shape) for name, array in weights.items()}
    return Trained(trained, SAMPLES, {})


def evaluate(weights: Weights, data: str) -> Evaluated:
    return Evaluated(SAMPLES, {}, None)


@functools.cache
def _noise(shape: tuple[int, ...]) -> Array:
    # Drawn once: drawing is the benchmark's work, not the system's.
    return np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(1e-4)

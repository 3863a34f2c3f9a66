"""The same task with 200,000 numbers: model and answers travel as 800 kB, in many chunks."""

from fedmqtt.weights import Weights
from tests.faults.small_task import evaluate, load_data, train, weights_of_size

__all__ = ["evaluate", "initial_weights", "load_data", "train"]

SIZE = 200_000


def initial_weights(seed: int) -> Weights:
    return weights_of_size(SIZE, seed)

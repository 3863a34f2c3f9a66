"""What does an epsilon cost in accuracy? A small classifier, many devices with one sample each.

MNIST at 8 x 8 pixels (the middle 24 x 24, in means of 3 x 3), one linear layer of 650 numbers. Each
device holds one digit, is in every round, and sends the step of plain gradient descent on it; the
coordinator clips, sums and adds noise as it always does (`coordinator/noise/private_sum.py`), and
moves by fedavg with a rate. Tested on the 10,000 test digits; the mean over seeds, which draw the
devices and the noise. Epsilon is for all rounds together, at delta 1e-4: devices are in as many as
there are, and no amplification is claimed.

  python experiments/dp_utility.py --mnist path/to/mnist
  python experiments/dp_utility.py --mnist path/to/mnist --devices 10000 --epsilons 0 4 1 --seeds 1
  python experiments/dp_utility.py --mnist path/to/mnist --epsilons 2 --keyholders

With `--keyholders` answers are masked for three of them, who add the noise: that is three times the
variance, so that epsilon holds against one of them too who works with the coordinator.

An epsilon of 0 stands for no noise and no clipping. A run with 1437 devices takes a second of one
core.
Prints a table, and the result as JSON on the last line.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator.noise import differential_privacy
from coordinator.noise.differential_privacy import DifferentialPrivacy, Plan
from coordinator.noise.private_sum import PrivateRound, PrivateSum
from experiments import keyholder_noise, program
from experiments.tables import markdown
from fedmqtt.fixed_point import ExactSum
from fedmqtt.messages import Masking
from learning_tasks import mnist_files

DELTA = 1e-4
SIDE, CLASSES = 8, 10
SIZE = (SIDE * SIDE + 1) * CLASSES
CLIP = 1.0
RATE, RATE_CLIPPED = 6.0, 12.0
"""Steps that are clipped are shorter. Of 1 to 6, and of 3 to 25, these did best on one draw."""

_GREY = np.float32(0.2)
"""Taken from every pixel: about their mean, and no more than anybody knows of digits."""

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    images: Array
    """(n, 65): pixels from -0.2 to 0.8, and a 1 behind."""
    labels: Labels


@dataclass(frozen=True, slots=True)
class Result:
    devices: int
    epsilon: float
    noise_multiplier: float
    drowning: float
    """The noise's norm on a round's mean, in clip norms."""
    accuracy: float
    spread: float
    keyholders: bool = False
    """Whether three of them add the noise."""


def read(folder: Path, purpose: str) -> Digits:
    images, labels = mnist_files.read(folder, purpose)
    middle = images.reshape(-1, 28, 28)[:, 2:26, 2:26]
    small = middle.reshape(-1, SIDE, 3, SIDE, 3).mean(axis=(2, 4)).reshape(-1, SIDE * SIDE)
    ones = np.ones((len(small), 1), np.float32)
    return Digits(np.concatenate([small.astype(np.float32) - _GREY, ones], axis=1), labels)


def steps(model: Array, digits: Digits) -> Array:
    """Minus each device's gradient, (n, SIZE)."""
    scores = digits.images @ model.reshape(CLASSES, -1).T
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    errors = -chances
    errors[np.arange(len(errors)), digits.labels] += 1
    found: Array = (errors[:, :, None] * digits.images[:, None, :]).reshape(len(errors), -1)
    return found.astype(np.float32)


def accuracy(model: Array, digits: Digits) -> float:
    said = (digits.images @ model.reshape(CLASSES, -1).T).argmax(axis=1)
    return float((said == digits.labels).mean())


def plan(epsilon: float, rounds: int, clip: float) -> Plan | None:
    if not epsilon:
        return None
    return differential_privacy.plan(_chosen("central", epsilon, rounds, clip), rounds)


def _chosen(
    noise: Literal["central", "keyholders"], epsilon: float, rounds: int, clip: float
) -> DifferentialPrivacy:
    return DifferentialPrivacy(
        noise=noise, epsilon=epsilon, participations_max=rounds, delta=DELTA, clip_norm=clip
    )


def train(train_on: Digits, made: Plan | None, rounds: int, rate: float, seed: int) -> Array:
    model = np.zeros(SIZE, np.float32)
    key = f"an experiment's, {seed}".encode().ljust(32)
    for number in range(1, rounds + 1):
        running = (
            ExactSum(SIZE, 40)
            if made is None
            else PrivateSum(SIZE, PrivateRound(made, key, number, {}, norm_max=1e6))
        )
        for step in steps(model, train_on):
            running.add(step, 1)
        model = (model + rate * running.mean()).astype(np.float32)
    return model


def measure(
    everybody: Digits, judged: Digits, devices: int, epsilon: float, seeds: int, rounds: int
) -> Result:
    made = plan(epsilon, rounds, CLIP)
    rate = RATE if made is None else RATE_CLIPPED
    found = [
        accuracy(train(mine, made, rounds, rate, seed), judged)
        for seed, mine in _drawn(everybody, devices, seeds)
    ]
    sigma = 0.0 if made is None else made.sigma
    drowning = sigma * math.sqrt(SIZE) / devices
    return Result(devices, epsilon, sigma, drowning, mean(found), pstdev(found))


def measure_masked(
    everybody: Digits, judged: Digits, devices: int, epsilon: float, seeds: int, rounds: int
) -> Result:
    asked = _chosen("keyholders", epsilon, rounds, CLIP)
    made, how = keyholder_noise.settled(asked, SIZE, devices, rounds)
    found = [
        accuracy(train_masked(mine, how, rounds, seed), judged)
        for seed, mine in _drawn(everybody, devices, seeds)
    ]
    drowning = made.plan.noise_on_sums * math.sqrt(SIZE) / devices
    sigma = made.plan.sigma
    return Result(devices, epsilon, sigma, drowning, mean(found), pstdev(found), keyholders=True)


def train_masked(train_on: Digits, how: Masking, rounds: int, seed: int) -> Array:
    model = np.zeros(SIZE, np.float32)
    for number in range(1, rounds + 1):
        told = keyholder_noise.mean(how, steps(model, train_on), seed, number)
        model = (model + RATE_CLIPPED * told.change).astype(np.float32)
    return model


def _drawn(everybody: Digits, devices: int, seeds: int) -> Iterator[tuple[int, Digits]]:
    for seed in range(seeds):
        chosen = np.random.default_rng([seed, devices]).permutation(len(everybody.labels))[:devices]
        yield seed, Digits(everybody.images[chosen], everybody.labels[chosen])


def main() -> None:
    arguments = program.parser(__doc__, "mnist", needed=True)
    arguments.add_argument("--devices", type=int, nargs="+", default=[1437, 10000])
    arguments.add_argument("--epsilons", type=float, nargs="+", default=[0, 8, 4, 2, 1, 0.5])
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument(
        "--keyholders", action="store_true", help="three of them add the noise, under masks"
    )
    asked = arguments.parse_args()
    how = measure_masked if asked.keyholders else measure
    everybody, judged = read(asked.mnist, "train"), read(asked.mnist, "test")
    found = [
        how(everybody, judged, devices, epsilon, asked.seeds, asked.rounds)
        for devices in asked.devices
        for epsilon in asked.epsilons
    ]
    head = ["devices", "epsilon", "noise multiplier", "noise on the mean", "accuracy"]
    rows = [
        [
            f"{one.devices}",
            f"{one.epsilon:g}" if one.epsilon else "none",
            f"{one.noise_multiplier:.1f}",
            f"{one.drowning:.2f}",
            f"{100 * one.accuracy:.1f} ± {100 * one.spread:.1f}",
        ]
        for one in found
    ]
    print(markdown(head, rows))
    program.print_result("dp_utility", results=[asdict(one) for one in found])


if __name__ == "__main__":
    main()

"""The experiment on what an epsilon costs, on made-up digits that anybody tells apart."""

from pathlib import Path

import numpy as np
import pytest

from experiments import dp_utility
from tests.experiments.programs import result
from tests.learning_tasks.idx_files import write_mnist


def test_less_epsilon_is_more_noise_and_less_accuracy(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=300, test=100)
    words = ["--mnist", str(tmp_path), "--devices", "300", "--seeds", "1", "--rounds", "20"]
    found = result("dp_utility.py", [*words, "--epsilons", "0", "8", "0.1"])["results"]
    none, some, much = found
    assert none["accuracy"] > 0.9 and none["noise_multiplier"] == 0
    assert some["accuracy"] > 0.9 > much["accuracy"]
    # sigma sqrt(650) / 300.
    assert some["drowning"] == pytest.approx(some["noise_multiplier"] * 650**0.5 / 300, abs=1e-3)


def test_keyholders_add_three_times_the_variance(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=300, test=100)
    words = ["--mnist", str(tmp_path), "--devices", "300", "--seeds", "1", "--rounds", "15"]
    words += ["--epsilons", "8"]
    (central,) = result("dp_utility.py", words)["results"]
    (masked,) = result("dp_utility.py", [*words, "--keyholders"])["results"]
    assert masked["noise_multiplier"] == central["noise_multiplier"]
    assert masked["drowning"] == pytest.approx(3**0.5 * central["drowning"], rel=1e-3)
    assert masked["accuracy"] > 0.9


def test_a_devices_step_is_the_gradient_by_differences(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=20, test=20)
    digits = dp_utility.read(tmp_path, "train")
    assert digits.images.shape == (20, 65)
    chance = np.random.default_rng(1)
    model = chance.normal(size=dp_utility.SIZE).astype(np.float32)
    direction = chance.normal(size=dp_utility.SIZE).astype(np.float32)

    def loss(at: np.ndarray) -> float:
        scores = (digits.images @ at.reshape(10, -1).T).astype(np.float64)
        own = scores[np.arange(20), digits.labels]
        return float((np.log(np.exp(scores).sum(axis=1)) - own).sum())

    step = np.float32(1e-2)
    slope = (loss(model + step * direction) - loss(model - step * direction)) / (2 * step)
    found = dp_utility.steps(model, digits).sum(axis=0) @ direction
    assert -found == pytest.approx(slope, rel=2e-3)

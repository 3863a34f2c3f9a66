"""Real programs at a real broker: each step is corrected by what the devices remember."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from fedmqtt.messages import Training
from learning_tasks import linear
from tests.test_federation import LINEAR, NAMES, three_train

pytestmark = pytest.mark.broker

ROUNDS, STEPS, RATE = 4, 5, 0.3


def test_the_model_is_that_of_the_algorithm_written_out(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # All samples in each step, so that there is no chance in it.
    words = [f"training.epochs={STEPS}", "training.batch_size=60", f"training.learning_rate={RATE}"]
    words += ["aggregation=scaffold", "aggregation_settings.clients=3"]
    sets = [word for one in words for word in ("--set", one)]
    three_train(tmp_path, mosquitto_broker.url, federation_name, LINEAR, ROUNDS, *sets)
    found = load_file(tmp_path / "run" / "model.safetensors")
    assert found.keys() == {"weight", "bias"}
    for name, array in written_out().items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    for client in NAMES:
        (kept,) = (tmp_path / client / "memory").iterdir()
        assert kept.suffix == ".memory"


def written_out() -> dict[str, np.ndarray]:
    w = linear.initial_weights(0)
    zeros = {name: np.zeros_like(array) for name, array in w.items()}
    c, own = zeros, dict.fromkeys(NAMES, zeros)
    data = {name: linear.load_data(Path("none"), name, "train") for name in NAMES}
    for _ in range(ROUNDS):
        ends, controls = [], {}
        for client in NAMES:
            y = {name: array.copy() for name, array in w.items()}
            for _ in range(STEPS):
                slope = linear.gradient(y, data[client], Training(), 0, lambda f: None).weights
                for name, array in y.items():
                    array -= RATE * (slope[name] - own[client][name] + c[name])
            controls[client] = {
                name: own[client][name] - c[name] + (w[name] - y[name]) / (STEPS * RATE)
                for name in w
            }
            ends.append(y)
        w = {name: np.mean([end[name] for end in ends], axis=0) for name in w}
        c = {name: np.mean([one[name] for one in controls.values()], axis=0) for name in w}
        own = controls
    return w

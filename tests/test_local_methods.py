"""Real programs at a real broker: what a federation asks of clients beyond plain local SGD."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from edge_client import personal_layers
from fedmqtt import personal, weights
from fedmqtt.messages import Training
from fedmqtt.topics import RunId
from learning_tasks import linear
from tests.test_federation import LINEAR, NAMES, three_train

pytestmark = pytest.mark.broker


def test_gradients_of_all_make_one_step_of_the_server(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    words = ("--set", "aggregation=fedsgd", "--set", "aggregation_settings.rate=0.5")
    three_train(tmp_path, mosquitto_broker.url, federation_name, LINEAR, 3, *words)
    model = linear.initial_weights(0)
    data = [linear.load_data(tmp_path, name, "train") for name in NAMES]
    for _ in range(3):
        # One gradient of everybody's samples in one heap.
        heap = linear.Samples(*(np.concatenate(parts) for parts in zip(*data, strict=True)))
        slope = linear.gradient(model, heap, Training(), 0, lambda fraction: None).weights
        model = {name: array - 0.5 * slope[name] for name, array in model.items()}
    for name, array in load_file(tmp_path / "run" / "model.safetensors").items():
        np.testing.assert_allclose(array, model[name], rtol=1e-5, atol=1e-6)


ENDLESS = """
from dataclasses import replace
from msgspec import structs
from learning_tasks import linear
from learning_tasks.linear import evaluate, initial_weights, load_data

LOCAL_METHODS = ("steps",)

def train(weights, data, training, seed, progress):
    # The batch is all there is: one step each.
    once, steps = structs.replace(training, epochs=1, batch_size=60), 0
    # It would go on for ever.
    while not (steps and progress(0.0)):
        trained = linear.train(weights, data, once, seed + steps, lambda fraction: None)
        weights, steps = trained.weights, steps + 1
    return replace(trained, steps=steps)
"""


def test_who_runs_out_of_time_sends_what_it_has(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    task = tmp_path / "endless.py"
    task.write_text(ENDLESS)
    words = ["aggregation=fednova", "rounds.deadline_s=15", "training.batch_size=1"]
    # More than anybody makes in that time: so many the coordinator believes.
    words += ["training.epochs=10000", "training.learning_rate=0.001", "tuning.enabled=false"]
    sets = [word for one in words for word in ("--set", one)]
    first, _ = three_train(tmp_path, mosquitto_broker.url, federation_name, str(task), 1, *sets)
    assert first.samples == 3 * 60
    assert load_file(tmp_path / "run" / "model.safetensors")["weight"].any()


def test_layers_that_stay_on_the_device_are_in_no_model_and_in_no_update(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    words = ("--set", 'training.personal=["bias"]')
    three_train(tmp_path, mosquitto_broker.url, federation_name, LINEAR, 2, *words)
    model = load_file(tmp_path / "run" / "model.safetensors")
    assert model["weight"].any() and not model["bias"].any()
    division = personal.division(weights.layout_of(linear.initial_weights(0)), ["bias"])
    kept = [
        personal_layers.read(tmp_path / name / "memory", RunId(path.stem), division)
        for name in NAMES
        for path in (tmp_path / name / "memory").glob("*.personal")
    ]
    assert len({None if one is None else one.tobytes() for one in kept} - {None}) == 3

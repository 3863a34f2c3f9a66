"""Noise by keyholders among real programs: as much as is promised, whoever vanishes."""

import math
import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from broker_config.mosquitto import find_mosquitto
from fedmqtt import noise_promise
from fedmqtt.masking import values
from fedmqtt.privacy import gaussian
from tests.masked_federation import masked_federation
from tests.planted_task import SIZE, planted

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

NAMES = ("ann", "bob", "cat", "dan")
KEYHOLDERS = ("kh-a", "kh-b", "kh-c")
MULTIPLIER, CLIP, DELTA = 0.02, 4.0, 1e-5
"""Little noise, so that the task still reads the round in its model's age."""
NOISE = (
    "[evaluation]\nevery = 0\n"
    f'[differential_privacy]\nnoise = "keyholders"\nnoise_multiplier = {MULTIPLIER}\n'
    f"participations_max = 2\nclip_norm = {CLIP}\ndelta = {DELTA}\n"
)

Model = NDArray[np.float64]


def model_of(path: Path) -> Model:
    tensors = load_file(path)
    found: Model = np.concatenate([tensors["age"], tensors["w"]]).astype(np.float64)
    return found


def deviations(after: Model, before: Model) -> Model:
    """By how much a round is off, in deviations of all three noises on a number of its mean."""
    # No number of theirs is above 1, and no norm above the clip norm.
    changes = [np.concatenate([[1.0], planted(who).change]) for who in NAMES]
    assert max(np.linalg.norm(one) for one in changes) < CLIP
    off = after - before - np.mean(changes, axis=0)
    found: Model = off * len(NAMES) / (MULTIPLIER * CLIP * math.sqrt(3))
    return found


def test_clients_and_a_keyholder_vanish_and_no_noise_with_them(tmp_path: Path) -> None:
    with masked_federation(tmp_path, KEYHOLDERS, NAMES) as federation, ExitStack() as stack:
        _, leaving_keyholder, _ = [
            stack.enter_context(federation.keyholder(name)) for name in KEYHOLDERS
        ]
        asks = ("--set", "privacy.at_least=keyholders", "--set", "privacy.norm_max=4")
        *_, dan = [stack.enter_context(federation.client(name, *asks)) for name in NAMES]
        rounds = "count = 9\ncohort = 4\nquorum = 4\nclients_min = 4"
        privacy = f'aggregation = "keyholders"\nfloor = 4\nkeyholder_timeout_s = 1\n{NOISE}'
        coordinator = stack.enter_context(federation.coordinating(rounds, privacy))
        federation.open_gates(1, *NAMES)
        federation.wait_for_round(1)
        first = model_of(federation.run / "model.safetensors")
        # A device sends its answer, and both it and a keyholder are gone for good.
        dan.wait_for("round 2: train")
        coordinator.process.send_signal(signal.SIGSTOP)
        federation.open_gates(2, "dan")
        federation.wait_for_answer("dan", 2)
        dan.process.kill()
        leaving_keyholder.process.kill()
        coordinator.process.send_signal(signal.SIGCONT)
        federation.open_gates(2, *NAMES)
        assert coordinator.wait() == 0, coordinator.log
        records = federation.records
        offers = federation.offers()
    last = model_of(federation.run / "model.safetensors")
    for before, after in ((np.zeros(1 + SIZE), first), (first, last)):
        found = deviations(after, before)
        # Five standard errors; half of the noise would be 0.5, and that of two of three 0.82.
        assert found.std() == pytest.approx(1.0, abs=5 / math.sqrt(2 * found.size))
        assert abs(found.mean()) < 5 / math.sqrt(found.size)
    assert [one.outcome for one in records] == ["averaged", "averaged"]
    told = [one.privacy for one in records]
    for count, one in enumerate(told, 1):
        assert one is not None and one.participations == count
        assert one.epsilon == pytest.approx(gaussian.epsilon(MULTIPLIER, count, DELTA), rel=1e-6)
        of_models = gaussian.epsilon(MULTIPLIER * math.sqrt(3), count, DELTA)
        assert one.epsilon_of_models == pytest.approx(of_models, rel=1e-6)
    # The third round did not open: the budget is used up, which both say.
    assert "together with 1 of the keyholders too" in coordinator.log
    assert "for who has the models alone, epsilon" in coordinator.said
    # So little noise is none, as far as samples may be worked out.
    assert "a sum of 4 clients tells" in coordinator.log
    assert sorted(offers) == [1, 2]
    for offer in offers.values():
        how = offer.masking
        assert how is not None and noise_promise.multiplier(how) == MULTIPLIER
        assert how.norm_steps == math.floor(CLIP * values.level_max(20))
        assert (how.norm_max, how.participations_max) == (CLIP, 2)

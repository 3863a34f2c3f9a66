"""Going back to an older model with real programs, where more than the model belongs to a round:
masks, noise that was spent, and deltas against what clients hold.

What a real coordinator does beside clients that are played is in `coordinator/test_rollback.py`.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from fedmqtt.messages import Masking
from fedmqtt.privacy import gaussian
from tests.masked_federation import masked_federation
from tests.programs import order, wait_until
from tests.test_downlink import NUMBERS, Following, dies
from tests.test_noised_federation import CLIP, DELTA, KEYHOLDERS, MULTIPLIER, deviations, model_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]


NAMES = ("ann", "bob", "cat", "dan")
PRIVACY = (
    'aggregation = "keyholders"\nfloor = 4\nkeyholder_timeout_s = 1\n[evaluation]\nevery = 0\n'
    f'[differential_privacy]\nnoise = "keyholders"\nnoise_multiplier = {MULTIPLIER}\n'
    f"participations_max = 3\nclip_norm = {CLIP}\ndelta = {DELTA}\n"
)


@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here")
def test_of_masked_and_noised_rounds_the_model_goes_back_and_no_epsilon(tmp_path: Path) -> None:
    rounds = "count = 9\ncohort = 4\nquorum = 4\nclients_min = 4"
    with masked_federation(tmp_path, KEYHOLDERS, NAMES) as federation, ExitStack() as stack:
        for name in KEYHOLDERS:
            stack.enter_context(federation.keyholder(name))
        for name in NAMES:
            stack.enter_context(federation.client(name))
        with federation.coordinating(rounds, PRIVACY) as coordinator:
            federation.open_gates(1, *NAMES)
            federation.open_gates(2, *NAMES)
            federation.wait_for_round(2)
            first = model_of(federation.run / "kept" / "1.safetensors")
            second = model_of(federation.run / "model.safetensors")
            wait_until(lambda: 3 in federation.offers())
            # Who trains from the first model again waits, as it did the first time.
            for name in NAMES:
                (federation.gates / f"{name}-2").unlink()
            operator = tmp_path / "kit" / "accounts" / "operator.toml"
            order("rollback", "1", "--credentials", str(operator))
            wait_until(lambda: 4 in federation.offers())
            dies(coordinator)
        with federation.coordinating(rounds, PRIVACY) as coordinator:
            coordinator.wait_for("going on with round 4")
            federation.open_gates(2, *NAMES)
            # Of nine rounds: everybody has been in three sums, of which one was given up.
            assert coordinator.wait() == 0, coordinator.log
        offers, records = federation.offers(), federation.records
    third = model_of(federation.run / "model.safetensors")
    assert "the privacy budget is used up" in coordinator.said
    told = [(one.round, one.outcome, one.privacy) for one in records]
    assert [one[:2] for one in told] == [
        *((1, "averaged"), (2, "averaged"), (3, "kept"), (4, "averaged"))
    ]
    for (_, _, privacy), count in zip(told, (1, 2, 2, 3), strict=True):
        assert privacy is not None and privacy.participations == count
        exact = gaussian.epsilon(MULTIPLIER, count, DELTA)
        assert privacy.epsilon == pytest.approx(exact, rel=1e-6)
    assert offers[4].model.digest == offers[2].model.digest != offers[3].model.digest
    # No key masks two rounds, given up or not.
    keys = [_keys(offer.masking) for offer in offers.values()]
    assert len(set(keys)) == len(keys) == 4
    # The same answers to the same model once more, and other noise on them: were it the same, or
    # half of it, the difference of two models would show what they have in common.
    _is_noise(deviations(third, first))
    _is_noise((deviations(third, first) - deviations(second, first)) / math.sqrt(2))


def _keys(masking: Masking | None) -> tuple[int, ...]:
    assert masking is not None
    return tuple(one.key.number for one in masking.keyholders)


def _is_noise(found: NDArray[np.float64]) -> None:
    """Of one deviation, within five standard errors."""
    assert found.std() == pytest.approx(1.0, abs=5 / math.sqrt(2 * found.size))


def _goal(who: str) -> NDArray[np.float32]:
    """To where this client trains, as the task of `test_downlink` has it."""
    return np.sin(np.arange(NUMBERS) * len(who)).astype(np.float32)


def _trained(base: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float64]:
    """The mean change of these, half of the way to their goals, weighted by their samples."""
    changes = [0.5 * (_goal(who) - base).astype(np.float64) for who in names]
    found: NDArray[np.float64] = np.average(changes, axis=0, weights=[len(who) for who in names])
    return found


def test_where_models_go_down_as_deltas_clients_begin_with_the_whole_older_one(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    here = Following(mosquitto_broker.url, federation_name, tmp_path, "int4")
    place = ("--broker", mosquitto_broker.url, "--federation", federation_name)
    pair = ("ann", "bobby")
    with here.client("ann") as ann, ExitStack() as stack:
        coordinator = stack.enter_context(here.coordinating())
        with here.client("bobby") as bobby:
            for number in (1, 2):
                for who, program in zip(pair, (ann, bobby), strict=True):
                    here.begins(who)
                    here.answers(who, program, number)
            here.begins("ann")
            here.begins("bobby")
            assert ann.log.count("model by deltas (1)") == 2
        # Bobby goes with the model that is given up, ann is at work on it.
        order("rollback", "1", *place)
        wait_until(lambda: len(_outcomes(here.run)) == 3)
        dies(coordinator)
        coordinator = stack.enter_context(here.coordinating())
        with here.client("bobby") as bobby:
            before = load_file(here.run / "model.safetensors")["w"]
            for who, program in zip(pair, (ann, bobby), strict=True):
                here.begins(who)
                here.answers(who, program, 4)
            # What they hold leads nowhere: they fetched it whole.
            assert ann.log.count("model by deltas") == 2
            assert "model by deltas" not in bobby.log
            wait_until(lambda: len(_outcomes(here.run)) == 4)
            after = load_file(here.run / "model.safetensors")["w"]
            # Those whom it was published to whole, and not as what the codec made of it.
            np.testing.assert_allclose(after, before + _trained(before, pair), atol=1e-6)
            for who, program in zip(pair, (ann, bobby), strict=True):
                here.begins(who)
                program.wait_for("model by deltas (1)")
                here.answers(who, program, 5)
            assert ann.log.count("model by deltas (1)") == 3
            assert coordinator.wait() == 0, coordinator.log
    assert np.array_equal(before, load_file(here.run / "kept" / "1.safetensors")["w"])
    assert _outcomes(here.run) == ["averaged", "averaged", "kept", "averaged", "averaged"]


def _outcomes(run: Path) -> list[str]:
    path = run / "history.jsonl"
    return [one.outcome for one in history.read(path)] if path.exists() else []

"""Controls in a real coordinator: killed at any moment it publishes what its clients' add up to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt import control, weights
from fedmqtt.messages import Offer
from fedmqtt.topics import Digest, RoundId
from fedmqtt.weights import Array
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    SIZE,
    Federation,
    back,
    come,
    kill,
    undisturbed,
)

pytestmark = pytest.mark.broker

SCAFFOLD = ["--set", "aggregation=scaffold", "--set", "rounds.count=3"]
PAUSE = ["--set", "rounds.pause_s=1000"]
DIFFERENCES = {"ann": [1.0, 0.0, 0.5, 0.1], "bob": [-1.0, 2.0, 0.0, 0.2], "cat": [3.0, 1.0, 0, 0]}


def agreed(guests: Sequence[Guest], offer: Offer, since: int) -> None:
    """Each answers with the same change, and its control grows by the same."""
    for guest in guests:
        name = str(guest.client)
        good = update(offer, CHANGES[name] + DIFFERENCES[name], since=RoundId(since))
        guest.say(good, number=offer.round)
        receipt = guest.receipt()
        assert receipt.accepted and receipt.counted == offer.round, receipt


def came_with(offer: Offer) -> tuple[Array, Array | None]:
    """The model's numbers and its control. So small a model comes with its offer."""
    _, flat, its_control = control.split(*weights.read(offer.model_file))
    return flat, its_control


def test_killed_between_rounds_and_within_one_it_publishes_the_same_bits(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    (tmp_path / "killed").mkdir()
    federation = Federation(url, federation_name, tmp_path / "killed")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*SCAFFOLD, *PAUSE) as program:
            first = ann.offered(1)
            agreed([ann, bob, cat], first, 0)
            room.page("model", lambda page: page.trained_rounds == 1)
            kill(room, program)
        with federation.coordinating(*SCAFFOLD) as program:
            second = bob.offered(2)
            agreed([bob], second, 1)
            kill(room, program)
        with federation.coordinating(*SCAFFOLD) as program:
            assert back(room, cat, second).model.digest == second.model.digest
            agreed([cat, ann], second, 1)
            third = ann.offered(3)
            agreed([bob, cat, ann], third, 2)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    offers = [first, second, third]
    controls = [came_with(offer)[1] for offer in offers]
    mean = np.mean(list(DIFFERENCES.values()), axis=0)
    for times, found in enumerate(controls):
        assert found is not None
        np.testing.assert_allclose(found, times * mean, rtol=1e-6)
    wanted: list[Digest] = []

    def all_agreed(guests: Sequence[Guest], offer: Offer) -> None:
        wanted.append(offer.model.digest)
        agreed(guests, offer, offer.round - 1)

    name, folder = f"{federation_name}-u", tmp_path / "undisturbed"
    model = undisturbed(url, name, folder, *SCAFFOLD, count=3, say=all_agreed)
    assert (federation.model, [offer.model.digest for offer in offers]) == (model, wanted)


def test_a_run_comes_to_have_a_control_and_to_have_none_with_its_strategy(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    plain = ["--set", "rounds.count=5"]
    scaffold = [*plain, "--set", "aggregation=scaffold"]
    with Room(url, federation_name) as room:
        guests = ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*plain) as program:
            assert came_with(ann.offered(1))[1] is None
            kill(room, program)
        with federation.coordinating(*scaffold) as program:
            second = ann.offered(2)
            model, none_yet = came_with(second)
            assert none_yet is not None and none_yet.tolist() == [0.0] * SIZE
            np.testing.assert_array_equal(model, came_with(ann.offered(1))[0])
            agreed([ann], second, 0)
            kill(room, program)
        with federation.coordinating(*scaffold) as program:
            assert back(room, bob, second).model.digest == second.model.digest
            agreed([bob, cat], second, 0)
            third = ann.offered(3)
            its_control = came_with(third)[1]
            assert its_control is not None and its_control.any()
            kill(room, program)
        with federation.coordinating(*plain) as program:
            fourth = ann.offered(4)
            assert came_with(fourth)[1] is None
            np.testing.assert_array_equal(came_with(fourth)[0], came_with(third)[0])
            for guest in guests:
                guest.say(update(fourth, CHANGES[str(guest.client)]), number=4)
                assert guest.receipt().accepted
            assert came_with(ann.offered(5))[1] is None
            kill(room, program)

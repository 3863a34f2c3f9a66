"""Differences in a real coordinator: killed at any moment it has what its clients remember."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.messages import Decline, Offer, Receipt
from fedmqtt.topics import RoundId
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    Federation,
    back,
    come,
    kill,
    undisturbed,
)

pytestmark = pytest.mark.broker

MIFA = ["--set", "aggregation=mifa", "--set", "rounds.count=3"]
PAUSE = ["--set", "rounds.pause_s=1000"]


def answer(guest: Guest, offer: Offer, since: int) -> Receipt:
    """The same difference each time: what is counted grows by it."""
    good = update(offer, CHANGES[str(guest.client)], since=RoundId(since))
    guest.say(good, number=offer.round)
    return guest.receipt()


def agreed(guests: Sequence[Guest], offer: Offer, since: int) -> None:
    for guest in guests:
        receipt = answer(guest, offer, since)
        assert receipt.accepted and receipt.counted == offer.round, receipt


def all_agreed(guests: Sequence[Guest], offer: Offer) -> None:
    agreed(guests, offer, offer.round - 1)


def test_killed_between_rounds_and_within_one_it_ends_with_the_same_bits(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    (tmp_path / "killed").mkdir()
    federation = Federation(url, federation_name, tmp_path / "killed")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*MIFA, *PAUSE) as program:
            agreed([ann, bob, cat], ann.offered(1), 0)
            room.page("model", lambda page: page.trained_rounds == 1)
            kill(room, program)
        with federation.coordinating(*MIFA) as program:
            second = bob.offered(2)
            agreed([bob], second, 1)
            kill(room, program)
        with federation.coordinating(*MIFA) as program:
            back(room, cat, second)
            # It goes by what it remembered before the first round, and is told what was counted.
            refused = answer(cat, second, 0)
            assert not refused.accepted and refused.counted == 1
            assert "goes by round 0 as the last that was counted; it was 1" in refused.reason
            agreed([cat, ann], second, 1)
            agreed([bob, cat, ann], ann.offered(3), 2)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    assert (federation.run / "clients").stat().st_size > 0
    name, folder = f"{federation_name}-u", tmp_path / "undisturbed"
    wanted = undisturbed(url, name, folder, *MIFA, count=3, say=all_agreed)
    assert federation.model == wanted


def test_a_round_that_misses_its_quorum_keeps_the_model_and_what_clients_remember(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    three = [*MIFA, "--set", "rounds.quorum=3"]
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*three, "--set", "rounds.retry_s=1000") as program:
            first = ann.offered(1)
            agreed([ann, bob], first, 0)
            cat.say(Decline(run=first.run, round=first.round, reason="not now"), number=1)
            room.page("round", lambda page: not page.open and page.outcome.startswith("kept"))
            kill(room, program)
        with federation.coordinating(*three) as program:
            second = ann.offered(2)
            assert second.model.digest == first.model.digest
            agreed([ann, bob], second, 1)
            agreed([cat], second, 0)
            room.page("model", lambda page: page.trained_rounds == 1)

"""Rounds whose sum a committee opens, with members and clients at a broker."""

import logging
from pathlib import Path

import numpy as np
import pytest

from broker_config.local_broker import RunningBroker
from coordinator.config import FederationConfig
from fedmqtt.committee_promise import KEY
from fedmqtt.messages import Offer
from tests.coordinator.guests import Room, zeros
from tests.coordinator.masked_room import (
    CHANGES,
    HOLDERS,
    MEAN,
    Keys,
    answer,
    keyholders,
    masked_update,
)
from tests.coordinator.masking import test_masked_rounds
from tests.coordinator.masking.test_masked_rounds import answer_all, model

pytestmark = pytest.mark.broker


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


@pytest.fixture
def keys(federation_name: str) -> Keys:
    return Keys(federation_name, *HOLDERS)


def config(url: str, keys: Keys) -> FederationConfig:
    chosen = {"aggregation": "committee", "experiments": ("committee",)}
    return test_masked_rounds.config(url, keys, chosen)


def test_the_sum_is_opened_by_keys_as_short_whatever_the_model(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys)
            lists = [holder.answer() for holder in holders.values()]
            room.ended(running)
    assert {(one.body, one.tail) for one in lists} == {(KEY, 0)}
    (record,) = running.records
    assert record.outcome == "averaged" and record.answered == sorted(CHANGES)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_with_too_few_members_no_round_opens_and_it_is_told_who_is_waited_for(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, "kh-a")
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust) as running:
            page = room.page("coordinator", lambda page: "waiting for keyholders" in page.says)
            assert "2 of 3 are needed" in page.says
            assert "kh-b (never seen), kh-c (never seen)" in page.says
            assert not any(guests[0].offers)
            holders |= keyholders(room, keys, "kh-c")
            answer_all(guests, keys)
            for holder in holders.values():
                holder.answer()
            room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


@pytest.mark.parametrize("liar", ["kh-a", "kh-b"])
def test_who_tells_the_least_lie_is_named_and_another_is_asked(
    url: str, keys: Keys, tmp_path: Path, liar: str
) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys)
            holders[liar].answer(lie=1)
            for name in HOLDERS:
                if name != liar:
                    holders[name].answer()
            # What the liar was to send: it is the one of whom both others say otherwise.
            honest = [holders[name] for name in HOLDERS if name != liar]
            room.wait(lambda: any(one.guest.has_list for one in honest))
            for one in honest:
                if one.guest.has_list:
                    whole = one.next_list()
                    # Of two that are asked the first is enough, and the other has no receipt.
                    one.guest.say(one.answer_to(whole), number=whole.round)
            room.ended(running)
            room.page(
                "coordinator",
                lambda page: any(f"{liar} gave other sums" in one for one in page.keyholder_faults),
            )
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_a_lie_that_nobody_else_could_deny_is_seen_by_what_it_leaves_and_the_model_is_kept(
    url: str, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of keyholders' sums such a one would be believed: see `confirmation.py`."""
    caplog.set_level(logging.WARNING, "coordinator")
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, "kh-a", "kh-c")
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys)
            # Seed 2 is held by kh-b too, which is away.
            holders["kh-a"].answer(lie=1, about=2)
            holders["kh-c"].answer()
            room.ended(running)
    (record,) = running.records
    assert record.outcome != "averaged"
    assert "what is left of the answers is no sum: the keys are not theirs" in caplog.text
    assert not model(running).any()


def test_a_copy_of_an_answer_is_in_the_sum_once_and_one_of_another_length_never(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust) as running:
            offer: Offer = guests[0].offered(1)
            ann, *others = guests
            short = masked_update(keys, "ann", offer, CHANGES["ann"], payload=memoryview(b"short"))
            ann.say(short, number=1)
            refused = ann.receipt()
            assert not refused.accepted and "5 bytes where" in refused.reason
            made = masked_update(keys, "ann", offer, CHANGES["ann"])
            for _ in range(2):
                ann.say(made, number=1)
                assert ann.receipt().accepted
            for guest in others:
                answer(guest, keys, offer, CHANGES[guest.client])
            for holder in holders.values():
                holder.answer()
            room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)

"""Rounds of which the coordinator sees a sum alone, with keyholders and clients at a broker."""

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import FederationConfig, Privacy
from coordinator.masking.clipped import Clipped
from fedmqtt import signing
from fedmqtt.messages import Offer, Opened, encode
from fedmqtt.status_pages import OPENING
from tests.coordinator.guests import Guest, Room, Running, federation_config, zeros
from tests.coordinator.masked_room import (
    CHANGES,
    HOLDERS,
    MEAN,
    Keys,
    answer,
    keyholders,
    masked_rounds,
    masked_update,
)
from tests.coordinator.persistence.test_restart import send_in_chunks

pytestmark = pytest.mark.broker


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


@pytest.fixture
def keys(federation_name: str) -> Keys:
    return Keys(federation_name, *HOLDERS)


def config(
    url: str, keys: Keys, privacy: dict[str, Any] | None = None, **rounds: Any
) -> FederationConfig:
    wanted = {"cohort": 3, "quorum": 3, "clients_min": 3} | rounds
    chosen: dict[str, Any] = {
        "aggregation": "keyholders",
        "floor": 3,
        "keyholder_timeout_s": 1000.0,
    }
    return federation_config(
        url, keys.federation, wanted, privacy=Privacy(**(chosen | (privacy or {})))
    )


def answer_all(guests: Sequence[Guest], keys: Keys, number: int = 1) -> Offer:
    offer = guests[0].offered(number)
    for guest in guests:
        answer(guest, keys, offer, CHANGES[guest.client])
    return offer


def model(running: Running) -> Any:
    return load_file(running.folder / "model.safetensors")["w"]


def test_the_sum_is_opened_and_nothing_is_told_of_a_single_client(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        offer = answer_all(guests, keys)
        assert offer.masking is not None
        assert [(one.name, one.place, one.key.number) for one in offer.masking.keyholders] == [
            ("kh-a", 0, 1),
            ("kh-b", 1, 1),
            ("kh-c", 2, 1),
        ]
        lists = [holder.answer() for holder in holders.values()]
        room.ended(running)
        page = room.page("clients")
    # Each sends the sum of one seed: no two of the same.
    assert sorted(seed for one in lists for seed in one.seeds) == [0, 1, 2]
    assert {one.digest for one in lists} == {lists[0].digest}
    (record,) = running.records
    assert record.outcome == "averaged" and record.answered == sorted(CHANGES)
    assert (record.samples, record.train_metrics) == (0, {})
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)
    assert not {*page.online, *page.away} & {*HOLDERS}


def test_one_keyholder_may_be_away_and_two_may_not(url: str, keys: Keys, tmp_path: Path) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path, holders=("kh-a",)) as (
        room,
        guests,
        holders,
        running,
    ):
        page = room.page("coordinator", lambda page: "waiting for keyholders" in page.says)
        assert "kh-b (never seen), kh-c (never seen)" in page.says
        assert page.keyholders == {"kh-a": "ready", "kh-b": "never seen", "kh-c": "never seen"}
        assert not any(guests[0].offers)
        holders |= keyholders(room, keys, "kh-c")
        offer = answer_all(guests, keys)
        assert offer.masking is not None
        assert [one.place for one in offer.masking.keyholders] == [0, 2]
        for holder in holders.values():
            holder.answer()
        room.ended(running)
        room.page("coordinator", lambda page: page.unconfirmed == [1])
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_while_a_sum_waits_for_keyholders_its_round_is_not_told_as_averaged(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    # Who has gone may be back in a moment, so others are asked for its sum after that time alone.
    chosen = config(url, keys, {"keyholder_timeout_s": 0.5})
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys)
            for name in ("kh-b", "kh-c"):
                holders[name].guest.leave()
            page = room.page("coordinator", lambda page: "the sum of round 1 waits" in page.says)
            assert page.says.endswith("2 of 3 are needed; away: kh-b, kh-c")
            assert page.next_step == "that sum is opened when these keyholders are there"
            assert room.page("round", lambda page: not page.open).outcome == OPENING
            holders["kh-b"].come("2")

            def is_over() -> bool:
                # By who was there each has been asked for one sum, or for another.
                for holder in (holders["kh-a"], holders["kh-b"]):
                    if holder.guest.has_list:
                        holder.answer()
                return not running.thread.is_alive()

            room.wait(is_over)
        ended = room.page("round", lambda page: page.outcome != OPENING)
        assert ended.outcome == "averaged: cohort complete"
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_who_has_no_key_in_a_round_is_told_apart_from_who_is_waited_for(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    """Of three two are needed, and one is away: who counted would take that for enough."""
    chosen = config(url, keys, {"keyholder_timeout_s": 0.5})
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, "kh-a", "kh-b")
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust):
            answer_all(guests, keys)
            holders["kh-b"].guest.leave()
            page = room.page("coordinator", lambda page: "the sum of round 1 waits" in page.says)
            assert page.says.endswith(
                "2 of 3 are needed; away: kh-b; without a key in that round: kh-c"
            )


def test_keyholders_that_would_open_no_sum_are_waited_for_before_anybody_trains(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        for name in ("kh-b", "kh-c"):
            holders[name].floor = 4
            holders[name].come("2")
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust) as running:
            page = room.page("coordinator", lambda page: "waiting for keyholders" in page.says)
            assert "fewer than 4 answers, and a round has 3 at most" in page.keyholders["kh-b"]
            assert not any(guests[0].offers)
            holders["kh-b"].floor = 3
            holders["kh-b"].come("3")
            answer_all(guests, keys)
            for name in ("kh-a", "kh-b"):
                holders[name].answer()
            room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_weights_by_samples_are_under_the_mask(url: str, keys: Keys, tmp_path: Path) -> None:
    chosen = config(url, keys, {"weight_max": 8, "samples_max": 80})
    with masked_rounds(chosen, keys, tmp_path) as (room, guests, holders, running):
        offer = guests[0].offered(1)
        for guest, samples in zip(guests, (10, 20, 1000), strict=True):
            answer(guest, keys, offer, CHANGES[guest.client], samples)
        for holder in holders.values():
            holder.answer()
        room.ended(running)
    wanted = np.average(list(CHANGES.values()), axis=0, weights=[1, 2, 8])
    np.testing.assert_allclose(model(running), wanted, atol=1e-4)
    (record,) = running.records
    assert record.samples == 0


def test_how_much_was_clipped_is_in_the_history_and_the_log(
    url: str, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    chosen = config(url, keys, {"change_max": 0.5, "norm_max": 0.9})
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys)
            for holder in holders.values():
                holder.answer()
            room.ended(running)
    (record,) = running.records
    # Two of nine numbers are above 0.5, and the changes that they are of are longer than 0.9.
    assert record.clipped == Clipped(numbers=0.222222, norms=0.666667)
    said = "clipped: 22.22% of the numbers that were sent, at least, 66.67% of the answers' norms"
    assert f"round 1: {said}" in caplog.text


def test_who_is_silent_is_replaced_by_another_that_holds_the_seed(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    chosen = config(url, keys, {"keyholder_timeout_s": 0.2})
    with masked_rounds(chosen, keys, tmp_path) as (room, guests, holders, running):
        answer_all(guests, keys)
        silent = holders["kh-b"].next_list()
        holders["kh-a"].answer()
        holders["kh-c"].answer()
        again = [one for one in ("kh-a", "kh-c") if one != "kh-b"]
        room.wait(lambda: any(holders[one].guest.has_list for one in again))
        (asked,) = (holders[one] for one in again if holders[one].guest.has_list)
        further = asked.answer()
        assert further.digest == silent.digest and set(silent.seeds) == set(further.seeds)
        room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_who_is_back_is_asked_again_and_not_who_publishes_keys(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        first, *others = holders.values()
        answer_all(guests, keys)
        whole = first.next_list()
        # As for a key in the place of the one that it is using; and then over a new connection.
        first.come()
        first.come("2")
        assert first.next_list() == whole
        first.guest.say(first.answer_to(whole), number=whole.round)
        assert first.guest.receipt().accepted
        for holder in others:
            holder.answer()
        room.ended(running)
        assert not first.guest.has_list
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_where_all_refuse_the_model_is_kept_and_the_reason_told(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        answer_all(guests, keys)
        holders["kh-a"].refuse("3 clients, fewer than 50")
        holders["kh-b"].refuse("3 clients, fewer than 50")
        room.ended(running)
        page = room.page("coordinator", lambda page: len(page.keyholder_faults) == 2)
    assert page.keyholder_faults[0] == ("kh-a opens no sum of round 1: 3 clients, fewer than 50")
    (record,) = running.records
    assert record.outcome == "kept"
    assert "kh-a opens no sum: 3 clients, fewer than 50" in record.reason
    assert model(running).tolist() == [0, 0, 0]


def test_who_lies_is_named_and_where_its_sum_is_impossible_anothers_is_taken(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        answer_all(guests, keys)
        holders["kh-b"].answer(lie=1000)
        holders["kh-a"].answer()
        holders["kh-c"].answer()
        # What kh-b was to send: it is the one of whom both others say otherwise.
        room.wait(lambda: any(holders[one].guest.has_list for one in ("kh-a", "kh-c")))
        for name in ("kh-a", "kh-c"):
            if holders[name].guest.has_list:
                holders[name].answer()
        room.ended(running)
        page = room.page(
            "coordinator", lambda page: any("gave" in one for one in page.keyholder_faults)
        )
    assert page.keyholder_faults[-1] == (
        "kh-b gave other sums of masks in round 1 than those that fit its answers"
    )
    assert any("kh-a and kh-b do not say the same" in one for one in page.keyholder_faults)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"masked": None}, "can be read, and answers to this round are masked"),
        ({"sample_count": 10}, "tells sample_count in the clear"),
        ({"metrics": {"loss": 1.0}, "base_loss": 0.5}, "tells metrics and base_loss in the clear"),
        ({"codec": "int8"}, "codec 'int8', not 'full'"),
        ({"payload": memoryview(b"short")}, "tensors of other shapes: 5 bytes where 100 belong"),
        ({"method": "partial"}, "was made by 'partial'"),
        ({"payload": memoryview(bytes(100))}, "the answer of ann is not what it signed"),
    ],
)
def test_what_is_wrong_with_a_masked_answer_is_told_to_its_sender(
    url: str, keys: Keys, tmp_path: Path, wrong: dict[str, Any], reason: str
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        offer = guests[0].offered(1)
        guests[0].say(masked_update(keys, "ann", offer, CHANGES["ann"], **wrong))
        receipt = guests[0].receipt()
        assert not receipt.accepted and reason in receipt.reason, receipt
        # What it sends then counts.
        answer_all(guests, keys)
        for holder in holders.values():
            holder.answer()
        room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_commitments_that_do_not_belong_there_are_refused_before_they_are_on_a_list(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        offer = guests[0].offered(1)
        made = masked_update(keys, "ann", offer, CHANGES["ann"])
        assert made.masked is not None
        for size in (0, 95, 128, 96):
            wrong = structs.replace(made.masked, commitments=bytes(size))
            guests[0].say(structs.replace(made, masked=wrong))
            receipt = guests[0].receipt()
            assert not receipt.accepted
            assert receipt.reason == (
                "the answer of ann is not what it signed, or not for this round"
                if size == 96
                else f"commits to its seeds in {size} bytes, not 96"
            )
        answer_all(guests, keys)
        for holder in holders.values():
            assert len(holder.answer().entries) == 3
        room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_a_sum_that_was_opened_by_ones_word_alone_is_told_of_until_another_confirms_it(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    chosen = config(url, keys, {"keyholder_timeout_s": 0.2}, count=2)
    with masked_rounds(chosen, keys, tmp_path) as (room, guests, holders, running):
        answer_all(guests, keys)
        silent = holders["kh-c"].next_list()
        for name in ("kh-a", "kh-b"):
            holders[name].answer()
        asked = [holders[name].guest for name in ("kh-a", "kh-b")]
        room.wait(lambda: any(one.has_list for one in asked))
        for name in ("kh-a", "kh-b"):
            if holders[name].guest.has_list:
                holders[name].answer()
        guests[0].offered(2)
        room.page("coordinator", lambda page: page.unconfirmed == [1])
        holders["kh-c"].guest.say(holders["kh-c"].answer_to(silent))
        assert holders["kh-c"].guest.receipt().accepted
        room.page("coordinator", lambda page: page.round == 2 and not page.unconfirmed)
        answer_all(guests, keys, number=2)
        for holder in holders.values():
            holder.answer()
        room.ended(running)


def test_large_sums_come_in_chunks_as_answers_do(url: str, keys: Keys, tmp_path: Path) -> None:
    size = 20_000
    change = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        chosen = config(url, keys)
        with room.coordinating(chosen, zeros(size), tmp_path, trust=keys.trust) as running:
            offer = guests[0].offered(1)
            for guest in guests:
                answer(guest, keys, offer, change.tolist())
            for holder in holders.values():
                whole = holder.next_list()
                send_in_chunks(holder.guest, encode(holder.answer_to(whole)), offer)
            room.ended(running)
    np.testing.assert_allclose(model(running), change, atol=1e-5)


def test_large_answers_are_known_by_who_signed_their_announcement_also_after_a_restart(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    size = 20_000
    change = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    chosen = config(url, keys)
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(size), tmp_path, trust=keys.trust):
            offer = guests[0].offered(1)
            for guest in guests:
                made = masked_update(keys, guest.client, offer, change.tolist())
                send_in_chunks(guest, encode(made), offer)
            before = [holder.next_list() for holder in holders.values()]
        with room.coordinating(chosen, None, tmp_path, trust=keys.trust) as running:
            asked = [holder.answer() for holder in holders.values()]
            assert [one.entries for one in asked] == [one.entries for one in before]
            room.ended(running)
    public = signing.as_bytes(signing.public_key(keys.key("ann")))
    assert [one.key for one in before[0].entries if one.client == "ann"] == [public]
    np.testing.assert_allclose(model(running), change, atol=1e-5)


def test_what_another_key_masked_than_the_one_that_sends_it_is_refused(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        offer = guests[0].offered(1)
        before = Keys(keys.federation, *HOLDERS)
        guests[0].say(masked_update(before, "ann", offer, CHANGES["ann"]))
        receipt = guests[0].receipt()
        assert not receipt.accepted
        assert receipt.reason == ("the answer of ann is not what it signed, or not for this round")
        answer_all(guests, keys)
        for holder in holders.values():
            holder.answer()
        room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_a_round_that_an_older_program_opened_is_given_up_with_a_reason(
    url: str, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = config(url, keys, count=2)
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust):
            answer(guests[0], keys, guests[0].offered(1), CHANGES["ann"])
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
            # As it was before answers had a second form.
            form = ',\\"form\\":2'
            db.execute("UPDATE round SET opening = CAST(replace(opening, ?, '') AS BLOB)", (form,))
            db.execute("UPDATE answer SET author = NULL")
            db.commit()
        with room.coordinating(chosen, None, tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys, number=2)
            for holder in holders.values():
                holder.answer()
            room.ended(running)
    assert "by another version of this program: it is given up" in caplog.text
    assert [one.outcome for one in running.records] == ["kept", "averaged"]
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_a_trusted_aggregator_alone_opens_the_sum(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    keys = Keys(federation_name, "aggregator")
    chosen = config(url, keys, {"aggregation": "trusted"})
    with Room(url, federation_name, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, "aggregator")
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys)
            assert holders["aggregator"].answer().seeds == (0,)
            room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_fewer_bytes_by_rotation_and_a_share_that_is_the_same_for_all(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    size = 4096
    few = {"value_bits": 8, "rotate": True, "share": 0.5, "ranges": "fixed"}
    chosen = config(url, keys, few)
    change = np.full(size, 0.01, np.float32)
    with masked_rounds(chosen, keys, tmp_path, size=size) as (room, guests, holders, running):
        offer = guests[0].offered(1)
        for guest in guests:
            answer(guest, keys, offer, change.tolist())
        for holder in holders.values():
            holder.answer()
        room.ended(running)
    (record,) = running.records
    assert record.codecs["full"].bytes == 3 * (2048 * 10 // 8 + 12)
    found = model(running)
    # One of each two numbers stands for both.
    assert np.count_nonzero(found) == size / 2
    np.testing.assert_allclose(found.mean(), 0.01, atol=1e-3)


def test_ranges_follow_from_how_large_values_were_in_the_round_before(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    size = 4096
    chosen = config(url, keys, {"value_bits": 4, "rotate": True, "share": 0.5}, count=2)
    change = np.full(size, 0.01, np.float32)
    with masked_rounds(chosen, keys, tmp_path, size=size) as (room, guests, holders, running):
        offers = []
        for number in (1, 2):
            offers.append(guests[0].offered(number))
            for guest in guests:
                answer(guest, keys, offers[-1], change.tolist())
            for holder in holders.values():
                holder.answer()
        room.ended(running)
    first, second = (offer.masking for offer in offers)
    assert first is not None and second is not None
    # While nothing is known, finely; then by four times the root mean square.
    assert (first.value_bits, first.ranges) == (16, ())
    assert second.value_bits == 4
    assert second.ranges == pytest.approx((0.04, 0.04), rel=1e-3)
    coarse, fine = (record.codecs["full"].bytes for record in reversed(running.records))
    # Behind the values the weight, two counts, and a word for each of two blocks.
    assert (coarse, fine) == (3 * (2048 * second.bits // 8 + 20), 3 * (2048 * first.bits // 8 + 20))
    # Of each pair of numbers one was drawn in a round, and stands for both.
    np.testing.assert_allclose(model(running).mean(), 0.02, rtol=0.02)


def test_an_answer_by_a_revoked_key_is_refused_before_it_could_spoil_the_list(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        keyholders(room, keys, *HOLDERS)
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust):
            offer = guests[0].offered(1)
            keys.revoked.add(signing.public_key(keys.key("ann")))
            guests[0].say(masked_update(keys, "ann", offer, CHANGES["ann"]))
            receipt = guests[0].receipt()
            assert (receipt.accepted, receipt.reason) == (False, "its key was revoked")


@pytest.mark.parametrize(
    ("wrong", "trouble"),
    [
        ({"digest": b"x" * 32}, "kh-a opens another list than it was asked about"),
        ({"digests": ()}, "kh-a tells 0 digests of the 2 seeds that it holds"),
        ({"seeds": (0,)}, "kh-a sends sums of seeds that it does not hold, or of one twice"),
        ({"payload": memoryview(b"short")}, "kh-a sends 5 bytes for 1 sums of 100 each"),
        ({"payload": memoryview(bytes(100))}, "kh-a sends a sum that is not the one of its digest"),
    ],
)
def test_an_answer_of_a_keyholder_that_is_none_is_named_and_others_are_asked(
    url: str, keys: Keys, tmp_path: Path, wrong: dict[str, Any], trouble: str
) -> None:
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        answer_all(guests, keys)
        bad = holders["kh-a"]
        bad.guest.say(structs.replace(bad.answer_to(bad.next_list()), **wrong))
        assert not bad.guest.receipt().accepted
        room.page("coordinator", lambda page: trouble in page.keyholder_faults)
        for name in ("kh-b", "kh-c"):
            holders[name].answer()
        room.wait(lambda: holders["kh-b"].guest.has_list or holders["kh-c"].guest.has_list)
        for name in ("kh-b", "kh-c"):
            if holders[name].guest.has_list:
                holders[name].answer()
        room.ended(running)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_who_says_opened_and_holds_no_key_is_not_read(url: str, keys: Keys, tmp_path: Path) -> None:
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        keyholders(room, keys, *HOLDERS)
        with room.coordinating(config(url, keys), zeros(3), tmp_path, trust=keys.trust):
            offer = guests[0].offered(1)
            forged = Opened(run=offer.run, round=offer.round, digest=b"x" * 32)
            guests[0].say(forged)
            receipt = guests[0].receipt()
            assert not receipt.accepted and "no place for Opened" in receipt.reason


def test_nothing_of_a_single_client_is_in_the_runs_folder_or_on_the_broker(
    url: str, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    planted = np.float32(0.123456789)
    seen = [planted.tobytes(), repr(float(planted))[:8].encode(), b"0.1234", b"98765"]
    with masked_rounds(config(url, keys), keys, tmp_path) as (room, guests, holders, running):
        offer = guests[0].offered(1)
        for guest, change in zip(guests, (float(planted), 0.0, 0.0), strict=True):
            answer(guest, keys, offer, [change] * 3, samples=98765)
        for holder in holders.values():
            holder.answer()
        room.ended(running)
        told = b"".join(bytes(one.payload) for one in room.traffic)
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    log = caplog.text.encode()
    for where in (told, kept, log):
        assert not [one for one in seen if one in where]
    np.testing.assert_allclose(model(running), [planted / 3] * 3, atol=1e-5)

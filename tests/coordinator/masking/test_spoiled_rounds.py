"""A client that spoils a masked round is left out of it, in that round, and killed at any moment of
that the coordinator comes to the same bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from coordinator.config import FederationConfig, Limits
from coordinator.persistence import history
from fedmqtt.messages import Decline, Open
from tests.coordinator.guests import Guest, Room, zeros
from tests.coordinator.masked_room import (
    CHANGES,
    HOLDERS,
    MEAN,
    Keys,
    answer,
    keyholders,
    masked_rounds,
)
from tests.coordinator.masking.test_masked_restart import Federation
from tests.coordinator.masking.test_masked_rounds import config, model
from tests.coordinator.persistence.test_restart import kill

pytestmark = pytest.mark.broker

NAMES = (*CHANGES, "eve")
SPOILED = [0.5, 0.5, 0.5]


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


@pytest.fixture
def keys(federation_name: str) -> Keys:
    return Keys(federation_name, *HOLDERS)


def of_four(url: str, keys: Keys, **rounds: Any) -> FederationConfig:
    """Three are enough."""
    return config(url, keys, **({"cohort": 4, "quorum": 3, "clients_min": 3} | rounds))


def answer_all(
    guests: Sequence[Guest],
    keys: Keys,
    spoiled_for: Sequence[str],
    number: int = 1,
    divided_for: Sequence[str] = (),
) -> None:
    offer = guests[0].offered(number)
    for guest in guests:
        if guest.client in CHANGES:
            answer(guest, keys, offer, CHANGES[guest.client])
        else:
            answer(
                *(guest, keys, offer, SPOILED),
                spoiled_for=spoiled_for,
                divided_for=divided_for,
            )


@pytest.mark.parametrize("spoiled_for", [HOLDERS, HOLDERS[:2], HOLDERS[1:2]])
def test_who_seals_nonsense_is_left_out_and_the_others_sum_is_opened_in_the_same_round(
    url: str, keys: Keys, tmp_path: Path, spoiled_for: Sequence[str]
) -> None:
    with masked_rounds(of_four(url, keys), keys, tmp_path, NAMES) as (
        room,
        guests,
        holders,
        running,
    ):
        answer_all(guests, keys, spoiled_for)
        lists = [holder.answer() for holder in holders.values()]
        room.ended(running)
        page = room.page("coordinator", lambda page: page.state == "finished")
        clients = room.page("clients", lambda page: "eve" in page.refused or len(spoiled_for) < 2)
    # All were shown the list that nobody opened, and were asked to open one without eve.
    assert all(len(holder.looked) == 1 for holder in holders.values())
    assert {entry.client for entry in holders["kh-a"].looked[0].entries} == set(NAMES)
    assert [[entry.client for entry in one.entries] for one in lists] == [sorted(CHANGES)] * 3
    (record,) = running.records
    says = f"what it sealed does not hold, says {' and '.join(spoiled_for)}"
    assert (record.outcome, record.unfit) == ("averaged", {"eve": says})
    assert record.answered == sorted(NAMES) and (record.in_sum, record.no_good) == (3, 1)
    assert sorted(page.keyholder_faults) == [
        f"{name} opens no sum of round 1: eve: sealed nonsense" for name in spoiled_for
    ]
    # By one alone it may be slander: only more than may lie are believed.
    assert ("eve" in clients.refused) == (len(spoiled_for) > 1)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


@pytest.mark.parametrize("divided_for", [HOLDERS[:1], HOLDERS[1:2], HOLDERS[1:]])
@pytest.mark.parametrize("lie", [0, 1000])
def test_who_gives_keyholders_different_seeds_is_named_and_of_them_only_one_that_lies(
    url: str, keys: Keys, tmp_path: Path, divided_for: Sequence[str], lie: int
) -> None:
    with masked_rounds(of_four(url, keys), keys, tmp_path, NAMES) as (
        room,
        guests,
        holders,
        running,
    ):
        answer_all(guests, keys, (), divided_for=divided_for)
        for name, holder in holders.items():
            asked = holder.answer(lie if name == "kh-b" else 0)
            assert [entry.client for entry in asked.entries] == sorted(CHANGES)
        if lie:
            # What kh-b was to send.
            room.wait(lambda: any(holders[one].guest.has_list for one in ("kh-a", "kh-c")))
            for name in ("kh-a", "kh-c"):
                if holders[name].guest.has_list:
                    holders[name].answer()
        room.ended(running)
        page = room.page("coordinator", lambda page: page.state == "finished")
        clients = room.page("clients", lambda page: "eve" in page.refused or len(divided_for) < 2)
    (record,) = running.records
    says = "a seed that it sealed is not the one that it committed to, says "
    assert record.outcome == "averaged"
    assert record.unfit == {"eve": says + " and ".join(divided_for)}
    assert ("eve" in clients.refused) == (len(divided_for) > 1)
    blamed = [one for one in page.keyholder_faults if "opens no sum of round 1: eve" not in one]
    assert [one for one in blamed if one.startswith("kh-b gave other sums")] == blamed[-1:]
    assert bool(blamed) == bool(lie)
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


def test_who_spoils_round_after_round_is_not_invited_any_more(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    chosen = structs.replace(of_four(url, keys, count=2), limits=Limits(strikes=1))
    with masked_rounds(chosen, keys, tmp_path, NAMES) as (room, guests, holders, running):
        answer_all(guests, keys, HOLDERS)
        for holder in holders.values():
            holder.answer()
        second = guests[0].offered(2)
        assert sorted(second.train) == sorted(CHANGES)
        answer_all(guests[:3], keys, (), 2)
        for holder in holders.values():
            holder.answer()
        room.ended(running)
    first, second_record = running.records
    assert list(first.unfit) == ["eve"] and list(first.quarantined) == ["eve"]
    assert second_record.unfit == {} and second_record.outcome == "averaged"
    np.testing.assert_allclose(model(running), 2 * MEAN, atol=1e-5)


def test_where_too_few_would_be_left_the_round_keeps_its_model_and_says_why(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    chosen = of_four(url, keys, quorum=4)
    with masked_rounds(chosen, keys, tmp_path, NAMES) as (room, guests, holders, running):
        answer_all(guests, keys, HOLDERS)
        room.ended(running)
    assert not any(holder.guest.has_list for holder in holders.values())
    (record,) = running.records
    assert record.outcome == "kept" and record.unfit == {}
    assert record.reason == (
        "too few of its answers can be opened, 4 are needed: "
        + "; ".join(f"{name} finds 1 of 4 clients unfit" for name in HOLDERS)
    )
    assert model(running).tolist() == [0, 0, 0]


def test_of_a_round_that_nobody_answers_nobody_is_told_to_be_unfit(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(of_four(url, keys, count=2), keys, tmp_path, NAMES) as (
        room,
        guests,
        holders,
        running,
    ):
        answer_all(guests, keys, HOLDERS)
        for holder in holders.values():
            holder.answer()
        second = guests[0].offered(2)
        for guest in guests:
            guest.say(Decline(run=second.run, round=second.round, reason="not now"), number=2)
        room.ended(running)
    first, kept = running.records
    assert list(first.unfit) == ["eve"]
    assert (kept.outcome, kept.unfit, kept.in_sum, kept.no_good) == ("kept", {}, 0, 0)


def test_a_keyholder_that_calls_everybody_unfit_costs_nothing_while_there_are_others(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    with masked_rounds(of_four(url, keys), keys, tmp_path, NAMES) as (
        room,
        guests,
        holders,
        running,
    ):
        holders["kh-b"].finds = lambda whole: NAMES
        answer_all(guests, keys, ())
        holders["kh-b"].refuse("all of them: sealed nonsense")
        holders["kh-a"].answer()
        holders["kh-c"].answer()
        room.wait(lambda: any(holders[one].guest.has_list for one in ("kh-a", "kh-c")))
        for name in ("kh-a", "kh-c"):
            if holders[name].guest.has_list:
                holders[name].answer()
        room.ended(running)
        assert not room.page("clients").refused
    (record,) = running.records
    assert (record.outcome, record.unfit) == ("averaged", {})
    wanted = np.mean([*CHANGES.values(), SPOILED], axis=0)
    np.testing.assert_allclose(model(running), wanted, atol=1e-5)


def test_who_is_left_out_for_what_is_not_its_doing_has_no_strike_and_the_true_reason(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    """Two owners of keyholders have an old list of enrolled devices."""
    chosen = structs.replace(of_four(url, keys), limits=Limits(strikes=1))
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*NAMES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        for name in HOLDERS[:2]:
            holders[name].finds, holders[name].why = lambda whole: ("eve",), "unenrolled"
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys, ())
            for holder in holders.values():
                holder.answer()
            room.ended(running)
            assert not room.page("clients").refused
    (record,) = running.records
    assert record.outcome == "averaged" and not record.quarantined
    assert record.unfit == {"eve": "it is on no list of enrolled devices, says kh-a and kh-b"}
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


@pytest.mark.parametrize("spoiled_for", [(), HOLDERS])
def test_what_is_said_too_late_of_the_list_that_was_looked_at_is_held_against_nobody(
    url: str, keys: Keys, tmp_path: Path, spoiled_for: Sequence[str]
) -> None:
    four = {"cohort": 4, "quorum": 3, "clients_min": 3}
    chosen = config(url, keys, {"keyholder_timeout_s": 0.2}, **four)
    with masked_rounds(chosen, keys, tmp_path, NAMES) as (room, guests, holders, running):
        slow = holders["kh-c"]
        looks, parts = slow.guest.looks, list[Open]()
        slow.guest.looks = parts.append
        answer_all(guests, keys, spoiled_for)
        whole = slow.next_list()
        looks(parts[0])
        assert slow.looked[0].digest == parts[0].digest
        assert (whole.digest == parts[0].digest) == (not spoiled_for)
        # Others are asked for sums before one that was silent.
        assert not whole.seeds
        slow.guest.say(slow.answer_to(whole), number=whole.round)
        for name in ("kh-a", "kh-b"):
            holders[name].answer()
        room.ended(running)
        page = room.page("coordinator", lambda page: page.state == "finished")
    assert not [one for one in page.keyholder_faults if one.startswith("kh-c")]
    (record,) = running.records
    assert (record.outcome, record.in_sum) == ("averaged", 3 if spoiled_for else 4)


def test_a_trusted_aggregators_word_is_enough(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    keys = Keys(federation_name, "aggregator")
    four = {"cohort": 4, "quorum": 3, "clients_min": 3}
    chosen = config(url, keys, {"aggregation": "trusted"}, **four)
    with Room(url, federation_name, seals=keys) as room:
        guests = room.guests(*NAMES, purposes=("train",))
        holders = keyholders(room, keys, "aggregator")
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys, ("aggregator",))
            holders["aggregator"].answer()
            room.ended(running)
            assert "eve" in room.page("clients").refused
    assert list(running.records[0].unfit) == ["eve"]
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)


@pytest.mark.parametrize(
    ("moment", "spoiled_for", "divided_for"),
    [
        *((one, HOLDERS, ()) for one in ("looking", "half looked", "settled", "half opened")),
        *((one, (), HOLDERS[:1]) for one in ("half looked", "half opened")),
    ],
)
def test_killed_at_any_moment_of_it_the_round_ends_with_the_same_bits(
    url: str,
    keys: Keys,
    tmp_path: Path,
    moment: str,
    spoiled_for: Sequence[str],
    divided_for: Sequence[str],
) -> None:
    federation = Federation(
        url, keys, tmp_path / "killed", cohort=4, quorum=3, clients_min=3, count=1
    )
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*NAMES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        looks = {holder.guest: holder.guest.looks for holder in holders.values()}
        silent = {"looking": HOLDERS, "half looked": HOLDERS[1:]}.get(moment, ())
        kept: dict[str, list[Any]] = {name: [] for name in silent}
        for name in silent:
            holders[name].guest.looks = kept[name].append
        with federation.coordinating() as program:
            answer_all(guests, keys, spoiled_for, divided_for=divided_for)
            if silent:
                room.wait(lambda: all(kept.values()))
                if moment == "half looked":
                    room.wait(lambda: bool(holders["kh-a"].looked))
            else:
                lists = [holder.next_list() for holder in holders.values()]
            if moment == "half opened":
                holders["kh-b"].guest.say(holders["kh-b"].answer_to(lists[1]))
                assert holders["kh-b"].guest.receipt().accepted
            kill(room, program)
        for holder in holders.values():
            holder.guest.looks = looks[holder.guest]
        before = {name: len(holder.looked) for name, holder in holders.items()}
        with federation.coordinating() as program:
            again = [holder.answer() for holder in holders.values()]
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    assert all({entry.client for entry in one.entries} == set(CHANGES) for one in again)
    if not silent:
        # Somebody may have opened it: it is not looked at again, and cannot become another.
        assert {one.digest for one in again} == {lists[0].digest}
        assert before == {name: len(holder.looked) for name, holder in holders.items()}
    (record,) = history.read(federation.folder / "run" / "history.jsonl")
    assert record.outcome == "averaged" and list(record.unfit) == ["eve"]
    undisturbed = np.frombuffer(federation.model, np.float32)
    np.testing.assert_array_equal(undisturbed, _undisturbed(url, keys, tmp_path / "undisturbed"))


def _undisturbed(url: str, keys: Keys, folder: Path) -> Any:
    """As where the three alone are invited."""
    other = Keys(f"{keys.federation}-u", *HOLDERS)
    with Room(url, other.federation, seals=other) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, other, *HOLDERS)
        chosen = of_four(url, other)
        with room.coordinating(chosen, zeros(3), folder, trust=other.trust) as running:
            offer = guests[0].offered(1)
            for guest in guests:
                answer(guest, other, offer, CHANGES[guest.client])
            for holder in holders.values():
                holder.answer()
            room.ended(running)
        return model(running)

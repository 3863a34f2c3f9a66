"""Killed by -9, or stopped, at any moment of a masked round, it ends with the same bits.

It asks keyholders again, and about the same list: they answer no other.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import settings
from fedmqtt.messages import Offer
from fedmqtt.topics import ClientId
from tests.coordinator import masked_room
from tests.coordinator.guests import Guest, Room
from tests.coordinator.masked_coordinator import Told
from tests.coordinator.masked_room import (
    CHANGES,
    HOLDERS,
    MEAN,
    HonestKeyholder,
    Keys,
    keyholders,
)
from tests.coordinator.masking.test_masked_measures_at_work import EVALUATION, MEASURED
from tests.coordinator.masking.test_masked_rounds import config
from tests.coordinator.persistence.test_restart import back, kill
from tests.programs import Program, running

pytestmark = pytest.mark.broker


class Federation:
    """One run's folder, and its coordinators."""

    def __init__(
        self, url: str, keys: Keys, folder: Path, privacy: Any = None, **rounds: Any
    ) -> None:
        self.folder = folder
        folder.mkdir()
        self._keys = keys
        self.trusts(keys.trust.keyholders)
        measures = structs.replace(EVALUATION, every=1)
        chosen = config(url, keys, privacy, **({"count": 2} | rounds))
        chosen = structs.replace(chosen, evaluation=measures)
        (folder / "federation.toml").write_text(settings.render(chosen))

    def trusts(self, keyholders: tuple[tuple[ClientId, str], ...]) -> None:
        """The coordinators that start from now on know of these."""
        told = Told(self._keys.private, keyholders, size=3)
        (self.folder / "trust.json").write_bytes(msgspec.json.encode(told))

    @contextmanager
    def coordinating(self) -> Iterator[Program]:
        words = ("tests.coordinator.masked_coordinator", str(self.folder))
        with running(self.folder, *words) as program:
            yield program

    @property
    def model(self) -> bytes:
        return load_file(self.folder / "run" / "model.safetensors")["w"].tobytes()

    @property
    def records(self) -> list[Record]:
        return history.read(self.folder / "run" / "history.jsonl")


def answer(guest: Guest, keys: Keys, offer: Offer) -> None:
    change, own = CHANGES[guest.client], MEASURED[guest.client]
    masked_room.answer(guest, keys, offer, change, measures=own)


def finish(
    room: Room,
    program: Program,
    keys: Keys,
    guests: list[Guest],
    holders: dict[str, HonestKeyholder],
) -> None:
    """The second round, undisturbed."""
    second = guests[0].offered(2)
    assert second.masking is not None
    # No key of the first one comes again.
    assert [one.key.number for one in second.masking.keyholders] == [2, 2, 2]
    for guest in guests:
        answer(guest, keys, second)
    for holder in holders.values():
        holder.answer()
    room.wait(lambda: program.process.poll() is not None)
    assert program.wait() == 0, program.log


def undisturbed(url: str, keys: Keys, folder: Path, privacy: Any = None) -> Federation:
    federation = Federation(url, keys, folder, privacy)
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            for guest in guests:
                answer(guest, keys, first)
            for holder in holders.values():
                holder.answer()
            finish(room, program, keys, guests, holders)
    return federation


COMMITTEE = {"aggregation": "committee", "experiments": ("committee",)}


@pytest.mark.parametrize(
    ("moment", "privacy"),
    [
        *((moment, None) for moment in ("answering", "asked", "half opened", "told to stop")),
        ("answering", COMMITTEE),
        ("half opened", COMMITTEE),
    ],
)
def test_ended_at_any_moment_it_asks_about_the_same_list_and_ends_with_the_same_bits(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    moment: str,
    privacy: dict[str, Any] | None,
) -> None:
    url = mosquitto_broker.url
    keys = Keys(federation_name, *HOLDERS)
    federation = Federation(url, keys, tmp_path / "killed", privacy)
    lists = []
    with Room(url, federation_name, seals=keys) as room:
        ann, bob, cat = guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = ann.offered(1)
            for guest in (ann, bob):
                answer(guest, keys, first)
            if moment != "answering":
                answer(cat, keys, first)
                lists = [holder.next_list() for holder in holders.values()]
            if moment == "half opened":
                holders["kh-b"].guest.say(holders["kh-b"].answer_to(lists[1]))
                assert holders["kh-b"].guest.receipt().accepted
            if moment == "told to stop":
                # It waits for no keyholder.
                program.process.send_signal(signal.SIGINT)
                room.wait(lambda: program.process.poll() is not None)
            else:
                kill(room, program)
        with federation.coordinating() as program:
            if moment == "answering":
                again = back(room, cat, first)
                # The keys of the round are the ones that two have masked for already.
                assert again.masking == first.masking
                answer(cat, keys, again)
            again_asked = [holder.answer() for holder in holders.values()]
            if lists:
                assert {one.digest for one in again_asked} == {lists[0].digest}
                assert {one.entries for one in again_asked} == {lists[0].entries}
            finish(room, program, keys, guests, holders)
    records = federation.records
    assert [one.outcome for one in records] == ["averaged", "averaged"]
    other = Keys(f"{federation_name}-u", *HOLDERS)
    calm = undisturbed(url, other, tmp_path / "undisturbed", privacy)
    assert federation.model == calm.model
    figures = [one.figures for one in records]
    assert figures == [one.figures for one in calm.records]
    assert all(one is not None and one.clients == 3 for one in figures)


def test_those_of_its_keyholders_who_are_still_enrolled_open_a_round(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    """One was revoked meanwhile, and another enrolled: the others have other places from then on,
    but not in what was masked for them before."""
    keys = Keys(federation_name, *HOLDERS, "kh-d")
    federation = Federation(mosquitto_broker.url, keys, tmp_path / "killed")
    with Room(mosquitto_broker.url, federation_name, seals=keys) as room:
        ann, *_ = guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS, "kh-d")
        with federation.coordinating() as program:
            first = ann.offered(1)
            for guest in guests:
                answer(guest, keys, first)
            lists = [holders[name].next_list() for name in HOLDERS]
            kill(room, program)
        federation.trusts(keys.trust.keyholders[1:])
        with federation.coordinating() as program:
            for name in HOLDERS[1:]:
                assert holders[name].answer().digest == lists[0].digest
            page = room.page("coordinator", lambda page: page.round == 2)
            assert page.keyholder_faults == []
            kill(room, program)
    (record,) = federation.records
    assert record.outcome == "averaged"
    np.testing.assert_allclose(np.frombuffer(federation.model, np.float32), MEAN, atol=1e-5)


def test_killed_in_a_round_it_goes_on_with_the_ranges_that_it_offered(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, few = mosquitto_broker.url, {"rotate": True, "value_bits": 4}
    keys = Keys(federation_name, *HOLDERS)
    federation = Federation(url, keys, tmp_path / "killed", few)
    with Room(url, federation_name, seals=keys) as room:
        ann, bob, cat = guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = ann.offered(1)
            for guest in guests:
                answer(guest, keys, first)
            for holder in holders.values():
                holder.answer()
            second = ann.offered(2)
            for guest in (ann, bob):
                answer(guest, keys, second)
            kill(room, program)
        with federation.coordinating() as program:
            again = back(room, cat, second)
            assert again.masking is not None and again.masking.ranges
            assert again.masking == second.masking
            answer(cat, keys, again)
            for holder in holders.values():
                holder.answer()
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    other = Keys(f"{federation_name}-u", *HOLDERS)
    assert federation.model == undisturbed(url, other, tmp_path / "undisturbed", few).model

"""Killed by -9, or stopped, at any moment of a masked round, it ends with the same bits.

It asks keyholders again, and about the same list: they answer no other.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator import history
from fedmqtt import settings
from tests.coordinator.guests import Guest, Room
from tests.coordinator.masked_coordinator import Told
from tests.coordinator.masked_room import HonestKeyholder, Keys, answer, keyholders
from tests.coordinator.test_masked_rounds import CHANGES, HOLDERS, config
from tests.coordinator.test_restart import back, kill
from tests.programs import Program, running

pytestmark = pytest.mark.broker


class Federation:
    """One run's folder, and its coordinators."""

    def __init__(self, url: str, keys: Keys, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        told = Told(keys.trust.federation_key, keys.trust.keyholders, size=3)
        (folder / "trust.json").write_bytes(msgspec.json.encode(told))
        chosen = config(url, keys, count=2)
        (folder / "federation.toml").write_text(settings.render(chosen))

    @contextmanager
    def coordinating(self) -> Iterator[Program]:
        words = ("tests.coordinator.masked_coordinator", str(self.folder))
        with running(self.folder, *words) as program:
            yield program

    @property
    def model(self) -> bytes:
        return load_file(self.folder / "run" / "model.safetensors")["w"].tobytes()


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
        answer(guest, keys, second, CHANGES[guest.client])
    for holder in holders.values():
        holder.answer()
    room.wait(lambda: program.process.poll() is not None)
    assert program.wait() == 0, program.log


def undisturbed(url: str, keys: Keys, folder: Path) -> bytes:
    federation = Federation(url, keys, folder)
    with Room(url, keys.federation) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            for guest in guests:
                answer(guest, keys, first, CHANGES[guest.client])
            for holder in holders.values():
                holder.answer()
            finish(room, program, keys, guests, holders)
    return federation.model


@pytest.mark.parametrize("moment", ["answering", "asked", "half opened", "told to stop"])
def test_ended_at_any_moment_it_asks_about_the_same_list_and_ends_with_the_same_bits(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, moment: str
) -> None:
    url = mosquitto_broker.url
    keys = Keys(federation_name, *HOLDERS)
    federation = Federation(url, keys, tmp_path / "killed")
    lists = []
    with Room(url, federation_name) as room:
        ann, bob, cat = guests = room.guests(*CHANGES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = ann.offered(1)
            for guest in (ann, bob):
                answer(guest, keys, first, CHANGES[guest.client])
            if moment != "answering":
                answer(cat, keys, first, CHANGES["cat"])
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
                answer(cat, keys, again, CHANGES["cat"])
            again_asked = [holder.answer() for holder in holders.values()]
            if lists:
                assert {one.digest for one in again_asked} == {lists[0].digest}
                assert {one.entries for one in again_asked} == {lists[0].entries}
            finish(room, program, keys, guests, holders)
    records = history.read(federation.folder / "run" / "history.jsonl")
    assert [one.outcome for one in records] == ["averaged", "averaged"]
    other = Keys(f"{federation_name}-u", *HOLDERS)
    assert federation.model == undisturbed(url, other, tmp_path / "undisturbed")

"""Rounds by sortition, by a real coordinator that is killed by -9 in the middle of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt.messages import Offer
from fedmqtt.sortition import invites
from fedmqtt.topics import ClientId
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import Federation, back, come, kill
from tests.programs import Program

pytestmark = pytest.mark.broker

KNOWN = ("ann", "bob", "cat", "dan")
SETTINGS = ("--set", "rounds.count=1", "--set", "rounds.clients_min=4")
CHANGE = {name: [0.1 * n, 1e-7 * n, 1 / (3 + n), -0.3] for n, name in enumerate((*KNOWN, "late"))}


def federation(url: str, name: str, folder: Path) -> Federation:
    folder.mkdir()
    made = Federation(url, name, folder)
    config = folder / "federation.toml"
    # Keys of the file itself stand before its sections.
    config.write_text('selection = "sortition"\n' + config.read_text())
    return made


@contextmanager
def coordinating(made: Federation) -> Iterator[Program]:
    with made.coordinating(*SETTINGS) as program:
        yield program


def newcomers(offer: Offer, drawn: bool) -> Iterator[str]:
    """Names that nobody has, and that the offer invites or does not."""
    names = (f"new-{number}" for number in range(1000))
    return (name for name in names if invites(offer, ClientId(name), "train") == drawn)


def newcomer(offer: Offer, drawn: bool) -> str:
    return next(newcomers(offer, drawn))


def answer(guest: Guest, offer: Offer, change: str) -> None:
    guest.say(update(offer, CHANGE[change], 3), number=1)
    receipt = guest.receipt()
    assert receipt.accepted, receipt


def play(url: str, name: str, folder: Path, *, killed: bool) -> Federation:
    made = federation(url, name, folder)
    with Room(url, name) as room:
        guests = come(room, *KNOWN)
        with coordinating(made) as program:
            offer = guests[0].offered(1)
            assert (offer.train, offer.evaluate) == ((), ())
            drawn = [one for one in guests if invites(offer, one.client, "train")]
            assert len(drawn) == 3
            late = room.guest(newcomer(offer, drawn=True))
            late.come(task="learning_tasks.linear", purposes=("train",))
            answer(late, offer, "late")
            answer(drawn[0], offer, str(drawn[0].client))
            if killed:
                kill(room, program)
            else:
                answer(drawn[1], offer, str(drawn[1].client))
                room.wait(lambda: program.process.poll() is not None)
        if killed:
            with coordinating(made) as program:
                again = back(room, late, offer)
                assert again.sortition == offer.sortition and again.sortition is not None
                # It was there before, and is no second one.
                answer(late, again, "late")
                other = room.guest(newcomer(offer, drawn=False))
                other.say(update(again, CHANGE["late"]), number=1)
                assert other.receipt().reason == "not invited to train in round 1"
                answer(drawn[1], again, str(drawn[1].client))
                room.wait(lambda: program.process.poll() is not None)
    return made


def test_killed_it_goes_on_with_the_same_clients_also_those_that_came_late(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    calm = play(url, f"{federation_name}-c", tmp_path / "calm", killed=False)
    killed = play(url, f"{federation_name}-k", tmp_path / "killed", killed=True)
    assert calm.model == killed.model
    (one,), (other,) = (history.read(made.run / "history.jsonl") for made in (calm, killed))
    assert one.invited == other.invited and len(one.invited) == 4
    assert one.answered == other.answered and len(one.answered) == 3


def test_killed_it_refuses_again_who_found_no_room(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    made = federation(mosquitto_broker.url, federation_name, tmp_path / "f")
    with Room(mosquitto_broker.url, federation_name) as room:
        guests = come(room, *KNOWN)
        with coordinating(made) as program:
            offer = guests[0].offered(1)
            # Three of those that are known are invited: for three more there is room.
            names = newcomers(offer, drawn=True)
            waiting = [room.guest(next(names)) for _ in range(3)]
            for guest in waiting:
                guest.come(task="learning_tasks.linear", purposes=("train",))
                # The coordinator says so when it has let it in.
                guest.time_left()
            refused = room.guest(next(names))
            refused.say(update(offer, CHANGE["late"], 3), number=1)
            assert refused.receipt().reason == "round 1 has no room for more clients"
            kill(room, program)
        with coordinating(made) as program:
            again = back(room, refused, offer)
            refused.say(update(again, CHANGE["late"], 3), number=1)
            assert refused.receipt().reason == "round 1 has no room for more clients"
            for guest in waiting:
                answer(guest, again, "late")
            room.wait(lambda: program.process.poll() is not None)
    (closed,) = history.read(made.run / "history.jsonl")
    assert closed.answered == sorted(guest.client for guest in waiting)


def test_a_phone_that_rebooted_after_its_answer_is_told_that_it_counts(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    made = federation(mosquitto_broker.url, federation_name, tmp_path / "f")
    with Room(mosquitto_broker.url, federation_name) as room:
        guests = come(room, *KNOWN)
        with coordinating(made):
            offer = guests[0].offered(1)
            phone = next(one for one in guests if invites(offer, one.client, "train"))
            answer(phone, offer, str(phone.client))
            phone.come(task="learning_tasks.linear", purposes=("train",), session="2")
            receipt = phone.receipt()
            assert (receipt.accepted, receipt.run, receipt.round) == (True, offer.run, 1)

"""A standby goes on with the run of the one it stands by for, whoever of them started first."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.messages import Offer
from tests.coordinator.guests import Guest, Room
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    Federation,
    answer,
    answer_all,
    back,
    come,
    kill,
)
from tests.own_broker import free_port, mosquitto_at

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("first_one", ["runs", "is gone"])
def test_a_standby_that_came_before_the_run_began_brings_none_of_its_own(
    federation_name: str, tmp_path: Path, first_one: str
) -> None:
    port = free_port()
    federation = Federation(f"mqtt://127.0.0.1:{port}", federation_name, tmp_path)
    with federation.coordinating() as program, federation.coordinating("--standby") as standby:
        for waiting in (program, standby):
            waiting.wait_for("cannot reach")
        # So that the other one takes the seat.
        standby.process.send_signal(signal.SIGSTOP)
        with mosquitto_at(port), Room(f"mqtt://127.0.0.1:{port}", federation_name) as room:
            guests = come(room, *CHANGES)
            first = guests[0].offered(1)
            answer(guests[0], first)
            if first_one == "is gone":
                kill(room, program)
            standby.process.send_signal(signal.SIGCONT)
            if first_one == "runs":
                standby.wait_for("standing by")
                kill(room, program)
            again = back(room, guests[1], first)
            assert (again.run, again.round, again.train) == (first.run, 1, ("bob", "cat"))
            for guest in guests[1:]:
                answer(guest, first)
            for guest in guests:
                answer(guest, guest.offered(2))
            room.wait(lambda: standby.process.poll() is not None)
            assert standby.wait() == 0
    assert federation.run.name in standby.said, "no other folder is left"


def test_standbys_end_with_the_run_that_they_stood_by_for(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with (
            federation.coordinating() as program,
            ExitStack() as waiting,
        ):
            offer = guests[0].offered(1)
            standbys = [
                waiting.enter_context(federation.coordinating("--standby")) for _ in range(2)
            ]
            for standby in standbys:
                standby.wait_for("standing by")
            for guest in guests:
                answer(guest, offer)
            for guest in guests:
                answer(guest, guests[0].offered(2))
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
            told = f"the run in {federation.run} is finished: there is nothing to take over\n"
            for standby in standbys:
                room.wait(lambda one=standby: one.process.poll() is not None)  # type: ignore[misc]
                assert (standby.wait(), standby.said) == (0, told)
    assert federation.run.exists(), "no other folder is left"


def test_beside_a_finished_run_a_standby_waits_for_the_next_and_begins_none(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    one_round = ("--set", "rounds.count=1")
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*one_round) as program:
            answer_all(guests, guests[0].offered(1))
            room.wait(lambda: program.process.poll() is not None)
        finished = federation.run
        with federation.coordinating("--standby") as standby:
            standby.wait_for(f"standing by: the run in {finished} is finished")
            standby.process.send_signal(signal.SIGTERM)
            room.wait(lambda: standby.process.poll() is not None)
            assert standby.wait() == 130
        assert federation.run == finished, "no other folder is left"
        with federation.coordinating("--standby") as standby:
            standby.wait_for(f"standing by: the run in {finished} is finished")
            with federation.coordinating() as program:
                offer = _offered(room, guests[0], lambda one: not one.run.startswith(finished.name))
                standby.wait_for("is in use by")
                answer(guests[0], offer)
                kill(room, program)
            again = back(room, guests[1], offer)
            assert (again.run, again.round, again.train) == (offer.run, 1, ("bob", "cat"))
            answer_all(guests[1:], offer)
            second = _offered(room, guests[0], lambda one: (one.run, one.round) == (offer.run, 2))
            answer_all(guests, second)
            room.wait(lambda: standby.process.poll() is not None)
            assert standby.wait() == 0, standby.log
    assert len([*federation.runs.iterdir()]) == 2


def _offered(room: Room, guest: Guest, fits: Callable[[Offer], bool]) -> Offer:
    """The first one that does, once it is there."""
    room.wait(lambda: any(one is not None and fits(one) for one in guest.offers))
    return next(one for one in guest.offers if one is not None and fits(one))

"""A standby goes on with the run of the one it stands by for, whoever of them started first."""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from tests.coordinator.guests import Room
from tests.coordinator.persistence.test_restart import CHANGES, Federation, answer, back, come, kill
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

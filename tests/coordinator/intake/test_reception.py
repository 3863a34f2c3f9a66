"""Who is refused and who is not, without keys, at a real Mosquitto."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.config import FederationConfig, Limits
from coordinator.intake.quarantine import Add, Lift, Term
from coordinator.intake.quarantine_file import give
from fedmqtt.status_pages import ClientsPage
from fedmqtt.topics import ClientId
from tests.coordinator.guests import Room, federation_config, update, zeros

pytestmark = pytest.mark.broker

MALLORY = ClientId("mallory")
GOOD = [1.0]
FOR_GOOD = Add(client=MALLORY, term=Term(began=0.0, until=None, why="a test"))


@pytest.fixture
def room(mosquitto_broker: RunningBroker, federation_name: str) -> Iterator[Room]:
    with Room(mosquitto_broker.url, federation_name) as room:
        yield room


def _config(room: Room, clients: int, strikes: int = 5) -> FederationConfig:
    rounds = {"count": 3, "cohort": clients, "clients_min": clients, "quorum": clients}
    limits = Limits(strikes=strikes)
    return federation_config(str(room.url), room.federation, rounds, limits=limits)


def _is_out(page: ClientsPage) -> bool:
    return MALLORY in page.quarantined


def _is_in(page: ClientsPage) -> bool:
    return MALLORY not in page.quarantined


def test_who_left_while_in_quarantine_is_away_when_it_is_over(room: Room, tmp_path: Path) -> None:
    mallory = room.guest("mallory")
    with room.coordinating(_config(room, 3), zeros(1), tmp_path) as running:
        mallory.come()
        room.page("clients", lambda page: MALLORY in page.online)
        give(tmp_path, FOR_GOOD)
        room.page("clients", _is_out)
        mallory.leave()
        # It comes behind that.
        mallory.shout(mallory.to(), b"\xc1")
        give(tmp_path, Lift(client=MALLORY))
        page = room.page("clients", lambda page: _is_in(page) and MALLORY in page.away)
        assert MALLORY not in page.online
        running.stop()


def test_an_answer_that_may_yet_count_is_not_refused_in_quarantine(
    room: Room, tmp_path: Path
) -> None:
    """Its client would forget it, and a copy of it, late on its way, would count all the same."""
    ann, mallory = room.guests("ann", "mallory")
    with room.coordinating(_config(room, 2), zeros(1), tmp_path) as running:
        first = ann.offered(1)
        give(tmp_path, FOR_GOOD)
        room.page("clients", _is_out)
        mallory.say(update(first, GOOD))
        mallory.say(update(first, GOOD), number=777)
        # Through the same link, so behind the others; and this one is refused.
        mallory.shout(mallory.to(lane=0, number=1), b"\xc1")
        mallory.say(update(first, GOOD), number=0)
        told = mallory.receipt()
        assert (told.round, told.accepted) == (0, False)
        assert told.reason.startswith("in quarantine until it is lifted")
        give(tmp_path, Lift(client=MALLORY))
        room.page("clients", _is_in)
        # As its agent does, which has had no receipt.
        mallory.say(update(first, GOOD))
        assert mallory.receipt().accepted
        ann.say(update(first, GOOD))
        assert ann.receipt().accepted
        ann.offered(2)
        running.stop()
    assert running.records[0].answered == ["ann", "mallory"]


def test_bytes_in_an_envelope_that_nobody_can_open_are_junk_too(room: Room, tmp_path: Path) -> None:
    mallory, *_ = room.guests("mallory", "ann")
    with room.coordinating(_config(room, 2, strikes=3), zeros(1), tmp_path) as running:
        mallory.offered(1)
        for _ in range(3):
            mallory.shout(mallory.to(), b"\xc1\x01junk")
        page = room.page("clients", _is_out)
        assert "there is no key here to check it with" in page.quarantined[MALLORY].why
        assert not mallory.has_mail
        running.stop()

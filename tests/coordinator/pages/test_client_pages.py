"""Clients' own pages on a real broker: what they say, and that none lies there for ever."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from coordinator.config import Evaluation, FederationConfig, StatusSettings
from fedmqtt import messages, status_pages
from fedmqtt.messages import Activity, Measures, Presence, TimeLeft
from fedmqtt.status_pages import ClientPage
from fedmqtt.topics import ClientId, Inbox, PresenceOf, RoundId, StatusPage, lane_of
from tests.coordinator.guests import TASK, Guest, Room, federation_config, update, zeros

pytestmark = pytest.mark.broker


def config(broker: RunningBroker, name: str, **status: object) -> FederationConfig:
    two = {"cohort": 2, "quorum": 2, "clients_min": 2}
    found = federation_config(broker.url, name, two)
    return structs.replace(found, status=StatusSettings(**status))  # type: ignore[arg-type]


def says(guest: Guest, activity: Activity | None, note: str = "") -> None:
    here = Presence(
        online=True,
        session="1",
        task=TASK,
        purposes=("train", "evaluate"),
        draws=True,
        activity=activity,
        note=note,
        program="fedmqtt 0.1.0",
        label="pi",
    )
    guest.shout(PresenceOf(guest.client), messages.encode(here))


def two_that_tell(room: Room) -> tuple[Guest, Guest]:
    """What they do: nothing yet."""
    ann, bob = room.guest("ann"), room.guest("bob")
    for guest in (ann, bob):
        says(guest, Activity())
    return ann, bob


def left_behind(room: Room, name: str, days_ago: float) -> None:
    """A page that an earlier coordinator published, and that lies there still."""
    seen = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="seconds")
    page = ClientPage(
        client=ClientId(name),
        state="online",
        says="waiting",
        since=seen,
        last_seen=seen,
        rounds_invited=5,
        rounds_answered=4,
    )
    room.publish(StatusPage(f"client/{name}"), status_pages.encode(page))


def test_a_page_tells_what_its_client_does_and_what_it_has_done(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with Room(broker.url, federation_name) as room:
        ann, bob = two_that_tell(room)
        with room.coordinating(config(broker, federation_name), zeros(4), tmp_path) as running:
            offer = ann.offered(1)
            page = room.page("client/ann", lambda page: page.doing == "waiting")
            assert (page.state, page.says, page.label) == ("online", "waiting", "pi")
            assert page.last_seen <= page.as_of
            training = Activity(
                doing="training",
                round=RoundId(1),
                progress=0.5,
                epoch=2,
                epochs=3,
                uplink_kbps=800.0,
            )
            room.traffic.clear()
            says(ann, training)
            page = room.page("client/ann", lambda page: page.doing == "training")
            assert page.says == "training for round 1, epoch 2 of 3, 50%"
            assert (page.progress, page.epoch, page.epochs) == (0.5, 2, 3)
            assert page.uplink_kbps == 800.0
            # It is no birth: nobody is told anew how much time is left.
            assert not [
                one
                for one in room.traffic
                if isinstance(one.address, Inbox)
                and isinstance(messages.read_to_client(one.payload), TimeLeft)
            ]
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * 4), lane=lane_of(guest.client, 1))
                assert guest.receipt().accepted
            room.ended(running)
        # What is left to say when the program ends is said: training is over, though ann tells no
        # more.
        page = room.page("client/ann", lambda page: page.rounds_answered == 1)
        assert (page.says, page.round, page.uplink_kbps) == ("waiting", 0, 800.0)
    assert running.records[0].answered == ["ann", "bob"]


def test_when_a_run_is_over_nobody_is_said_to_work_for_it(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with Room(broker.url, federation_name) as room:
        ann, bob = two_that_tell(room)
        evaluated = structs.replace(config(broker, federation_name), evaluation=Evaluation(every=1))
        measures = Measures(sample_count=2, metrics={"loss": 1.0})
        with room.coordinating(evaluated, zeros(4), tmp_path) as running:
            offer = ann.offered(1)
            for guest in (ann, bob):
                answer = update(offer, [1.0] * 4, measures=measures)
                guest.say(answer, lane=lane_of(guest.client, 1))
            last = ann.offered(2)
            says(ann, Activity(doing="evaluating", round=last.round, progress=0.5))
            page = room.page("client/ann", lambda page: page.doing == "evaluating")
            assert page.says == "evaluating for round 2, 50%"
            for guest in (ann, bob):
                found = messages.Evaluation(
                    run=last.run, round=last.round, base=last.model.digest, measures=measures
                )
                guest.say(found, lane=lane_of(guest.client, 1), number=2)
            room.ended(running)
        page = room.page("client/ann", lambda page: page.doing == "waiting")
        assert (page.says, page.round, page.progress) == ("waiting", 0, 0.0)
    assert running.service.is_finished


def test_an_old_program_that_tells_nothing_of_what_it_does_is_not_said_to_wait(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with Room(broker.url, federation_name) as room:
        (ann,) = room.guests("ann")
        with room.coordinating(config(broker, federation_name), zeros(4), tmp_path):
            page = room.page("client/ann")
            assert (page.doing, page.says, page.state) == ("", "online", "online")
            ann.leave()
            page = room.page("client/ann", lambda page: page.state == "away")
            assert page.says == "away"


def test_what_keeps_a_client_from_training_is_told(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with Room(broker.url, federation_name) as room:
        ann = room.guest("ann")
        says(ann, Activity(), note="not charging")
        with room.coordinating(config(broker, federation_name), zeros(4), tmp_path):
            page = room.page("client/ann")
            assert (page.why_not, page.says) == ("not charging", "waiting: not charging")


def test_pages_of_those_who_are_gone_for_good_are_taken_away(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with Room(broker.url, federation_name) as room:
        left_behind(room, "gone", 7.5)
        left_behind(room, "lately", 6.5)
        left_behind(room, "ann", 30.0)
        room.publish(StatusPage("client/broken"), b"{")
        room.wait(lambda: {"client/gone", "client/lately"} <= room.page_names)
        # That it is there says that it has not gone, however long it has been silent.
        room.guests("ann")
        with room.coordinating(config(broker, federation_name), zeros(4), tmp_path):
            room.wait(lambda: not {"client/gone", "client/broken"} & room.page_names)
            page = room.page("client/ann", lambda page: page.rounds_invited == 0)
            assert page.state == "online"
            # It said that it was online; the program that heard so is no more.
            assert room.page("client/lately", lambda page: page.state == "away").doing == ""


def test_without_pages_none_is_left_and_none_comes(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with Room(broker.url, federation_name) as room:
        left_behind(room, "ann", 0.1)
        left_behind(room, "bob", 0.1)
        room.wait(lambda: {"client/ann", "client/bob"} <= room.page_names)
        (ann, _bob) = room.guests("ann", "bob")
        without = config(broker, federation_name, clients=False)
        with room.coordinating(without, zeros(4), tmp_path):
            room.wait(lambda: not {"client/ann", "client/bob"} & room.page_names)
            room.traffic.clear()
            says(ann, Activity(doing="training", round=RoundId(1)))
            ann.leave()
            room.page("clients", lambda page: page.away == ["ann"])
    own = [one.address for one in room.traffic]
    assert not [one for one in own if isinstance(one, StatusPage) and "/" in one.page]

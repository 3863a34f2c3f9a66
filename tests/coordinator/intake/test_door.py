"""The door over a real link: what it asks of a broker, which the test plays (MQTT 3.1.1)."""

from collections.abc import Iterator

import pytest

from coordinator.intake import door
from coordinator.intake.door import Door
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import LinkUp
from fedmqtt.topics import ClientId, PresenceOf, Topics
from tests.fedmqtt.peer import Peer, loop, until
from tests.fedmqtt.stub_broker import CONNACK_311, PUBLISH, SUBSCRIBE, Connection, StubBroker, stub

__all__ = ["loop", "stub"]

UNSUBSCRIBE = 10
ANN, BOB, MALLORY = map(ClientId, ("ann", "bob", "mallory"))


class Stage:
    """A door, and what its broker knows of it."""

    def __init__(self, loop: EventLoop, stub: StubBroker, lanes: int = 1) -> None:
        self.loop = loop
        self.topics = Topics("f")
        self.peer = Peer(loop, stub.url, "f", "coordinator")
        self.peer.link.open()
        # It tries MQTT 5 first.
        first = self._accept(stub)
        first.receive()
        first.send(b"\x20\x02\x00\x01")
        first.hang_up()
        self._connection = self._accept(stub)
        self._connection.receive()
        self._connection.send(CONNACK_311)
        assert self.peer.next(LinkUp).retained_by_name
        self.door = Door(loop, self.peer.link, self.topics, lanes)
        self.filters: set[str] = set()
        self.asked: list[str] = []
        """All that was ever subscribed to, in turn."""

    def _accept(self, stub: StubBroker) -> Connection:
        connection = stub.accept(lambda: self.loop.run_once(wait_max_s=0.05))
        self.loop.run_once(wait_max_s=0)
        return connection

    def catch_up(self) -> set[str]:
        """Take in all that was sent so far: the filters that are subscribed to."""
        self.peer.link.publish(PresenceOf(ANN), b"behind it")
        while True:
            until(self.loop, self._connection.has_more, "a packet")
            packet = self._connection.receive()
            if packet.kind == PUBLISH:
                return self.filters
            named = list(_filters(packet.body[2:], 1 if packet.kind == SUBSCRIBE else 0))
            if packet.kind == SUBSCRIBE:
                self.asked += named
                self.filters |= set(named)
            else:
                assert packet.kind == UNSUBSCRIBE
                self.filters -= set(named)

    def names(self, *clients: ClientId) -> set[str]:
        """The filters of these alone."""
        return {f"fed/v1/f/update/+/{client}/+/+" for client in clients} | {
            self.topics.path(PresenceOf(client)) for client in clients
        }

    @property
    def everybody(self) -> set[str]:
        return {self.topics.any_update, self.topics.any_presence}


def _filters(body: bytes, options: int) -> Iterator[str]:
    while body:
        end = 2 + int.from_bytes(body[:2])
        yield body[2:end].decode()
        body = body[end + options :]


@pytest.fixture
def stage(loop: EventLoop, stub: StubBroker) -> Iterator[Stage]:
    made = Stage(loop, stub)
    yield made
    made.peer.link.close()


def test_who_is_asked_by_name_for_what_lies_there_is_not_listened_to_by_it(stage: Stage) -> None:
    """Else a flood would come by the name, with the door closed."""
    stage.door.listen([ANN, MALLORY])
    assert stage.catch_up() == stage.everybody
    assert stage.topics.path(PresenceOf(MALLORY)) in stage.asked
    assert stage.door.close_to(MALLORY, lambda: [ANN, MALLORY])
    assert stage.catch_up() == stage.names(ANN)


def test_who_comes_out_of_quarantine_is_listened_to_as_before_while_another_floods(
    stage: Stage,
) -> None:
    stage.door.listen([])
    stage.door.close_to(MALLORY, lambda: [ANN, BOB, MALLORY])
    stage.door.open_to(ANN)
    assert stage.catch_up() == stage.names(ANN, BOB)
    stage.door.close_to(BOB, lambda: [])
    stage.door.open_to(MALLORY)
    assert stage.catch_up() == stage.names(ANN, MALLORY)
    stage.asked.clear()
    stage.door.open_to(BOB)
    assert stage.catch_up() == stage.everybody
    assert stage.topics.path(PresenceOf(BOB)) in stage.asked, "where it is by now"


def test_of_each_message_of_a_flood_nobody_looks_at_the_others(stage: Stage) -> None:
    stage.door.listen([])
    asked: list[int] = []

    def everybody() -> list[ClientId]:
        asked.append(1)
        return [ANN]

    assert [stage.door.close_to(MALLORY, everybody) for _ in range(100)] == [True] + [False] * 99
    assert len(asked) == 1


def test_newcomers_are_looked_for_once_in_a_while_however_often_the_door_closes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "LOOK_EVERY_S", 0.0)
    for _ in range(5):
        stage.door.listen([])
        stage.door.close_to(MALLORY, lambda: [ANN])
    stage.catch_up()
    stage.asked.clear()
    stage.loop.run_once(wait_max_s=0)
    stage.catch_up()
    rounds_of_the_loop = len(stage.asked)
    stage.door.open_to(MALLORY)
    stage.catch_up()
    stage.asked.clear()
    stage.loop.run_once(wait_max_s=0)
    assert stage.catch_up() == stage.everybody
    assert rounds_of_the_loop and stage.asked == []


@pytest.fixture
def with_lanes(loop: EventLoop, stub: StubBroker) -> Iterator[Stage]:
    # Ann's lane is 3, bob's is 0.
    made = Stage(loop, stub, lanes=4)
    yield made
    made.peer.link.close()


def test_lanes_of_workers_are_not_listened_to(with_lanes: Stage) -> None:
    door, topics = with_lanes.door, with_lanes.topics
    door.listen([])
    assert with_lanes.catch_up() == {*map(topics.lane, range(4)), topics.any_presence}
    door.hear(frozenset({0, 1}))
    assert with_lanes.catch_up() == {topics.lane(0), topics.lane(1), topics.any_presence}
    door.hear(frozenset({1, 2}))
    assert with_lanes.catch_up() == {topics.lane(1), topics.lane(2), topics.any_presence}


def test_with_a_closed_door_answers_are_heard_of_our_own_lanes_alone(with_lanes: Stage) -> None:
    door, topics = with_lanes.door, with_lanes.topics
    presences = {topics.path(PresenceOf(one)) for one in (ANN, BOB)}
    door.listen([])
    door.hear(frozenset({0}))
    door.close_to(MALLORY, lambda: [ANN, BOB, MALLORY])
    assert with_lanes.catch_up() == {"fed/v1/f/update/+/bob/+/+", *presences}
    door.hear(frozenset({3}))
    assert with_lanes.catch_up() == {"fed/v1/f/update/+/ann/+/+", *presences}
    door.open_to(MALLORY)
    assert with_lanes.catch_up() == {topics.lane(3), topics.any_presence}

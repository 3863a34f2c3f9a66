"""What a simulated broker has lost when it is back, with and without a disk."""

from random import Random

import pytest

from fedmqtt.messages import Presence, Receipt
from fedmqtt.topics import ClientId, Inbox, PresenceOf, RoundId, RunId
from fleet_sim.broker import COORDINATOR, Broker, Message
from fleet_sim.clock import Clock
from fleet_sim.weather import Weather

ANN = ClientId("ann")
HERE = Presence(online=True, session="1")
RECEIPT = Receipt(run=RunId("r"), round=RoundId(1), accepted=True)


class Table:
    """A broker, a coordinator with a session of each connection, and what ann has read."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.broker = Broker(self.clock, Random("broker"), Weather(delay_s=1.0, will_s=5.0))
        self.read: list[Message] = []
        self.heard: list[Message] = []

    def connect_coordinator(self) -> None:
        self.broker.connect(
            COORDINATOR,
            lambda to, message, left, there: self.heard.append(message),
            is_clean=True,
        )

    def connect_ann(self) -> None:
        will = Presence(online=False, session="1")
        self.broker.connect(ANN, lambda to, message, left, there: self.read.append(message), will)

    def wait(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.clock.at(until, lambda: None)
        self.clock.run(until=lambda: self.clock.now >= until)

    def crash(self, *, keeps: bool) -> None:
        self.broker.crash(keeps=keeps)
        self.wait(30)
        self.broker.is_up = True


@pytest.mark.parametrize("keeps", [True, False])
def test_what_is_in_flight_at_a_crash_never_arrives(keeps: bool) -> None:
    table = Table()
    table.connect_coordinator()
    table.connect_ann()
    table.broker.publish(COORDINATOR, Inbox(ANN), RECEIPT)
    table.broker.publish(ANN, PresenceOf(ANN), HERE)
    table.crash(keeps=keeps)
    table.connect_coordinator()
    table.connect_ann()
    table.wait(30)
    assert (table.read, table.heard, table.broker.retained) == ([], [], {})


@pytest.mark.parametrize("keeps", [True, False])
def test_what_is_retained_and_what_waits_outlives_a_crash_on_a_disk(keeps: bool) -> None:
    table = Table()
    table.connect_coordinator()
    table.connect_ann()
    table.broker.publish(ANN, PresenceOf(ANN), HERE)
    table.wait(10)
    table.broker.disconnect(ANN, politely=True)
    table.broker.publish(COORDINATOR, Inbox(ANN), RECEIPT)
    table.wait(10)
    table.read.clear()
    table.crash(keeps=keeps)
    table.connect_ann()
    table.wait(10)
    assert table.read == ([RECEIPT, HERE] if keeps else [])


def test_a_will_does_not_outlive_the_broker() -> None:
    table = Table()
    table.connect_coordinator()
    table.connect_ann()
    table.broker.publish(ANN, PresenceOf(ANN), HERE)
    table.wait(10)
    table.broker.disconnect(ANN, politely=False)
    table.crash(keeps=True)
    table.connect_coordinator()
    table.wait(30)
    assert table.heard == [HERE, HERE], "ann is gone, and still looks as if she were there"


def test_nothing_waits_for_who_has_a_session_of_its_connection_only() -> None:
    table = Table()
    table.connect_ann()
    for _ in range(2):
        table.connect_coordinator()
        table.wait(10)
        table.broker.disconnect(COORDINATOR, politely=True)
        table.broker.publish(ANN, PresenceOf(ANN), HERE)
        table.wait(10)
    # What is retained is read at the second connect, and nothing else.
    assert table.heard == [HERE]

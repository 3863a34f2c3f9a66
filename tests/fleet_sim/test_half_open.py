"""A link whose network falls silent, at a real broker: who notices, and when it heals."""

import secrets
from collections.abc import Iterator
from random import Random

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Presence, encode
from fedmqtt.mqtt_link import (
    Arrived,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    parse_broker_url,
)
from fedmqtt.topics import ClientId, PresenceOf, Topics
from fleet_sim.connect_gate import ConnectGate
from fleet_sim.link_weather import LinkWeather
from fleet_sim.live_clock import LiveClock
from tests.coordinator.guests import Room
from tests.fedmqtt.peer import until

pytestmark = pytest.mark.broker

ANN, BOB = PresenceOf(ClientId("ann")), PresenceOf(ClientId("bob"))
HERE = encode(Presence(online=True, session="1"))


def _will(token: str) -> Publish:
    return Publish(ANN, Presence(online=False, session=token))


class Phone:
    def __init__(self, loop: EventLoop, url: str, federation: str, keepalive_s: int) -> None:
        self.loop = loop
        self.heard: list[LinkEvent] = []
        self.weather = LinkWeather(
            loop, LiveClock(loop), ConnectGate(loop), Random(0), falls_silent=True
        )
        topics = Topics(federation)
        options = LinkOptions(
            client_id=f"{federation}.{secrets.token_hex(4)}",
            subscribe=(topics.path(BOB),),
            will=_will,
            keepalive_s=keepalive_s,
            retry_base_s=0.05,
            retry_max_s=0.1,
        )
        self.link = MqttLink(
            loop, parse_broker_url(url), topics, options, self.heard.append, self.weather
        )
        self.weather.come()
        self.link.open()
        self.until(LinkUp, 1)

    def until(self, kind: type[LinkEvent], count: int) -> None:
        until(self.loop, lambda: self.count(kind) == count, f"{count} times {kind.__name__}")

    def count(self, kind: type[LinkEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.heard)


@pytest.fixture
def room(mosquitto_broker: RunningBroker, federation_name: str) -> Iterator[Room]:
    with Room(mosquitto_broker.url, federation_name) as room:
        yield room


def phone(room: Room, broker: RunningBroker, keepalive_s: int) -> Phone:
    return Phone(room.loop, broker.url, room.federation, keepalive_s)


def came(room: Room, address: PresenceOf) -> list[Arrived]:
    return [one for one in room.traffic if one.address == address]


def test_both_sides_notice_a_long_silence_by_the_keepalive(
    room: Room, mosquitto_broker: RunningBroker
) -> None:
    ann = phone(room, mosquitto_broker, keepalive_s=1)
    ann.weather.go()
    ann.link.publish(ANN, HERE)
    ann.until(LinkDown, 1)
    # The broker waits half as long again, and says the will.
    room.wait(lambda: len(came(room, ANN)) == 1)
    assert came(room, ANN)[0].payload != HERE
    # Its attempts to connect lead nowhere, and take no place in the queue of others.
    assert not ann.weather.is_connecting and ann.count(LinkUp) == 1
    ann.weather.come()
    ann.until(LinkUp, 2)
    ann.link.publish(ANN, HERE)
    room.wait(lambda: any(one.payload == HERE for one in came(room, ANN)))
    ann.link.close()
    ann.weather.close()


def test_a_short_silence_is_noticed_by_nobody(room: Room, mosquitto_broker: RunningBroker) -> None:
    ann = phone(room, mosquitto_broker, keepalive_s=60)
    guest = room.guest("bob")
    ann.weather.go()
    ann.link.publish(ANN, HERE)
    guest.shout(BOB, HERE)
    # It is at the broker by now, and would be at the phone.
    room.wait(lambda: len(came(room, BOB)) == 1)
    for _ in range(20):
        room.loop.run_once(wait_max_s=0.01)
    assert came(room, ANN) == [] and ann.count(Arrived) == 0
    ann.weather.come()
    room.wait(lambda: len(came(room, ANN)) == 1)
    ann.until(Arrived, 1)
    assert (ann.count(LinkUp), ann.count(LinkDown)) == (1, 0)
    ann.link.close()
    ann.weather.close()

"""When a device says what it does: phases that last, progress now and then, nothing while idle."""

from collections.abc import Iterator

import pytest
from msgspec import structs

from edge_client.told_presence import ToldPresence
from fedmqtt.messages import Activity
from fedmqtt.topics import RoundId
from tests.fleet_sim.hand_clock import HandLoop

WAITING = Activity()
DOWNLOADING = Activity(doing="downloading", round=RoundId(1))
TRAINING = Activity(doing="training", round=RoundId(1))
HALF = structs.replace(TRAINING, progress=0.5)


class Device:
    """Keeps what it says, with the time."""

    def __init__(self, loop: HandLoop, progress_s: float = 5.0) -> None:
        self.loop = loop
        self.spread_s = 0.0
        self.said: list[tuple[float, Activity]] = []
        self.told = ToldPresence(loop, progress_s, lambda: self.spread_s, self.say)

    def say(self) -> None:
        self.said.append((self.loop.at, self.told.take()))

    def does(self, at: float, activity: Activity) -> None:
        self.loop.pass_until(at)
        self.told.is_now(activity)


@pytest.fixture
def loop() -> Iterator[HandLoop]:
    loop = HandLoop()
    yield loop
    loop.close()


@pytest.fixture
def device(loop: HandLoop) -> Device:
    return Device(loop)


def test_a_round_that_is_over_in_a_moment_is_not_told(device: Device) -> None:
    for at, activity in ((10.0, DOWNLOADING), (10.5, TRAINING), (10.9, HALF), (11.4, WAITING)):
        device.does(at, activity)
    device.loop.pass_until(1000.0)
    assert device.said == []


def test_a_phase_is_told_when_it_has_lasted_and_once(device: Device) -> None:
    device.does(10.0, DOWNLOADING)
    device.does(10.5, TRAINING)
    device.loop.pass_until(11.4)
    assert device.said == []
    device.loop.pass_until(11.5)
    device.loop.pass_until(1000.0)
    assert device.said == [(11.5, TRAINING)]


def test_progress_is_told_every_so_often(device: Device) -> None:
    device.does(0.0, TRAINING)
    for tenth in range(10, 120):
        device.does(tenth / 10, structs.replace(TRAINING, progress=tenth / 200))
    assert [at for at, _ in device.said] == [1.0, 6.0, 11.0]
    assert [one.progress for _, one in device.said] == [0.0, 0.295, 0.545]


def test_without_progress_only_phases_are_told(loop: HandLoop) -> None:
    device = Device(loop, progress_s=0.0)
    device.does(0.0, TRAINING)
    loop.pass_until(1.0)
    device.does(2.0, HALF)
    device.does(60.0, WAITING)
    loop.pass_until(61.0)
    assert device.said == [(1.0, TRAINING), (61.0, WAITING)]


def test_in_a_large_fleet_all_of_it_takes_longer(device: Device) -> None:
    device.spread_s = 5.0
    device.does(0.0, TRAINING)
    device.does(99.0, HALF)
    assert device.said == []
    device.loop.pass_until(100.0)
    device.does(120.0, structs.replace(HALF, progress=0.6))
    device.loop.pass_until(199.0)
    device.loop.pass_until(200.0)
    assert [at for at, _ in device.said] == [100.0, 200.0]


def test_what_a_presence_said_for_another_reason_is_not_said_again(device: Device) -> None:
    device.does(0.0, TRAINING)
    device.loop.pass_until(0.5)
    assert device.told.take() == TRAINING
    device.loop.pass_until(100.0)
    assert device.said == []


def test_back_to_what_was_told_there_is_nothing_to_tell(device: Device) -> None:
    device.does(0.0, TRAINING)
    device.loop.pass_until(1.0)
    device.does(2.0, WAITING)
    device.does(2.5, TRAINING)
    device.loop.pass_until(100.0)
    assert device.said == [(1.0, TRAINING)]


def test_an_idle_device_says_nothing_whatever_it_learns_of_its_link(device: Device) -> None:
    device.does(0.0, WAITING)
    device.does(5.0, structs.replace(WAITING, uplink_kbps=99.0))
    device.loop.pass_until(100_000.0)
    assert device.said == []


def test_a_site_tells_of_another_device_of_its_own_although_it_waits(device: Device) -> None:
    device.does(0.0, WAITING)
    device.does(5.0, structs.replace(WAITING, devices=2))
    device.loop.pass_until(1000.0)
    assert [said.devices for _, said in device.said] == [2]


def test_who_is_stopped_says_nothing_more(device: Device) -> None:
    device.does(0.0, TRAINING)
    device.told.stop()
    device.loop.pass_until(100.0)
    assert device.said == []

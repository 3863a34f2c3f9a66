"""Many real clients in one process, whose connections come and go."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from edge_client.config import ClientConfig, Link
from edge_client.trainer_pool import TrainerPool
from fedmqtt.messages import Purpose
from fedmqtt.mqtt_link import parse_broker_url
from fleet_sim.swarm import Departures, Swarm
from learning_tasks import linear
from tests.coordinator.guests import Room, federation_config

pytestmark = pytest.mark.broker

TASK = "learning_tasks.linear"


@contextmanager
def swarming(
    room: Room, url: str, folder: Path, departures: Departures, count: int
) -> Iterator[Swarm]:
    """A swarm on the room's loop, and its trainers, for as long as the block lasts."""
    pool = TrainerPool(room.loop, keep_warm_s=1000.0)
    template = ClientConfig(
        broker=url,
        federation=room.federation,
        id="each",
        task=TASK,
        link=Link(will_delay_s=0, retry_max_s=0.2, resend_s=1.0),
    )
    clients: dict[str, Purpose] = {f"client-{number}": "train" for number in range(count)}
    swarm = Swarm(
        room.loop,
        parse_broker_url(url),
        template,
        clients,
        pool,
        folder / "swarm",
        seed=1,
        departures=departures,
    )
    swarm.start()
    try:
        yield swarm
    finally:
        swarm.stop()
        pool.close()


def test_a_share_is_away_and_everybody_has_a_turn(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    departures = Departures(away_share=1 / 3, leave_every_s=0.02)
    been_away: set[str] = set()
    sizes: set[int] = set()

    def everybody_had_a_turn() -> bool:
        been_away.update(swarm.away)
        sizes.add(len(swarm.away))
        return len(been_away) == 6 and bool(set(been_away) - set(swarm.away))

    with (
        Room(broker.url, federation_name) as room,
        swarming(room, broker.url, tmp_path, departures, 6) as swarm,
    ):
        room.wait(everybody_had_a_turn)
        assert sizes == {2}
        # Who is away has no link, and the others are there, or on their way.
        for client in swarm.away:
            assert not swarm.live.clients[client].is_connected
        room.wait(lambda: swarm.live.connected_count > 0)


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_extremes_are_harmless(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, share: float
) -> None:
    departures = Departures(away_share=share, leave_every_s=0.01)
    with (
        Room(mosquitto_broker.url, federation_name) as room,
        swarming(room, mosquitto_broker.url, tmp_path, departures, 3) as swarm,
    ):
        assert len(swarm.away) == (2 if share else 0)
        room.wait(lambda: swarm.live.connected_count > 0)


def test_those_who_vanish_at_work_deliver_when_they_are_back(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # Nobody leaves but the half of each round that vanishes, and comes back at once.
    departures = Departures(away_share=0.0, vanish_share=0.5)
    url = mosquitto_broker.url
    config = federation_config(
        url, federation_name, {"count": 2, "cohort": 4, "quorum": 4, "clients_min": 4}, task=TASK
    )
    with (
        Room(url, federation_name) as room,
        swarming(room, url, tmp_path, departures, 4) as swarm,
        room.coordinating(config, linear.initial_weights(0), tmp_path / "run") as running,
    ):
        room.ended(running)
        assert swarm.vanished == 2 * 2
        # Models came down, answers went up.
        assert swarm.live.bytes_down > swarm.live.bytes_up > 0
    assert [len(record.answered) for record in running.records] == [4, 4]
    assert all(record.outcome == "averaged" for record in running.records)


def test_nobody_comes_back_once_it_is_stopped(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    departures = Departures(away_share=0.5, leave_every_s=0.001)
    url = mosquitto_broker.url
    with Room(url, federation_name) as room:
        with swarming(room, url, tmp_path, departures, 8) as swarm:
            room.wait(lambda: swarm.live.connected_count > 0)
        passed: list[bool] = []
        room.loop.call_in(0.1, lambda: passed.append(True))
        room.wait(lambda: bool(passed))
        assert swarm.live.connected_count == 0

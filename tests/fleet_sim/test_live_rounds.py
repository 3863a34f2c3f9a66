"""When rounds of a live run were closed, however late that is seen."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coordinator.persistence import history
from coordinator.persistence.history import Record
from edge_client.config import ClientConfig
from edge_client.trainer_pool import TrainerPool
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import RoundId
from fleet_sim.live_rounds import LiveRounds
from fleet_sim.live_swarm import LiveSwarm
from tests.fleet_sim.hand_clock import HandLoop
from tests.fleet_sim.lab_fleets import LINEAR

URL = "mqtt://localhost:1"


def record(number: int, closed: datetime) -> Record:
    return Record(
        round=RoundId(number),
        closed=closed.isoformat(timespec="milliseconds"),
        outcome="averaged",
        reason="complete",
        base="",
        invited=[],
        answered=[],
        dropped=[],
        declined={},
        rejected={},
        evaluated=[],
        late_updates=0,
        duration_s=3.0,
        samples=0,
        train_metrics={},
        figures=None,
        bytes_received=0,
        bytes_published=0,
    )


@contextmanager
def nobody(loop: HandLoop, folder: Path, speed: float) -> Iterator[LiveSwarm]:
    """A swarm without clients, whose time runs."""
    pool = TrainerPool(loop)
    config = ClientConfig(broker=URL, federation="f", id="x", task=LINEAR)
    broker = parse_broker_url(URL)
    swarm = LiveSwarm(loop, broker, config, [], pool, folder / "swarm", speed=speed)
    swarm.start()
    yield swarm
    swarm.stop()
    pool.close()


def test_a_round_that_is_seen_late_is_marked_when_it_closed(tmp_path: Path) -> None:
    path, loop, told = tmp_path / "history.jsonl", HandLoop(), list[Record]()
    rounds = LiveRounds(loop, path, 10.0, told.append)
    with nobody(loop, tmp_path, 10.0) as swarm:
        rounds.follow(swarm)
        # An hour after the start it is looked at; the round closed 100 seconds before.
        loop.at = 3600.0
        history.append(path, record(1, datetime.now(UTC) - timedelta(seconds=100)))
        rounds.read()
        (mark,) = rounds.marks
        # Generous, in case this machine stood still between two lines.
        assert abs(mark.closed_s - 35_000) < 300
        # In the history its seconds are real ones; people are told of the fleet's.
        assert [one.duration_s for one in rounds.records] == [3.0]
        assert [one.duration_s for one in told] == [30.0]
    loop.close()


def test_each_round_is_told_of_once(tmp_path: Path) -> None:
    path, loop, told = tmp_path / "history.jsonl", HandLoop(), list[Record]()
    rounds = LiveRounds(loop, path, 1.0, told.append)
    with nobody(loop, tmp_path, 1.0) as swarm:
        rounds.follow(swarm)
        for number in (1, 2):
            history.append(path, record(number, datetime.now(UTC)))
            rounds.read()
            rounds.read()
        # The third is being written.
        with path.open("ab") as file:
            file.write(b'{"round": 3')
        rounds.read()
        assert [one.round for one in told] == [mark.round for mark in rounds.marks] == [1, 2]
    loop.close()

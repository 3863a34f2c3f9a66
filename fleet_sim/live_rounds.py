"""The rounds of a live run as its coordinator closes them: when, and what had been carried then.

coordinator ──▶ history.jsonl ──read now and then, and when a next offer comes──▶ records, marks
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from coordinator.persistence import history
from coordinator.persistence.history import Record
from edge_client import session
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.topics import ClientId, RoundId
from fleet_sim.lab_page import RoundMark
from fleet_sim.live_swarm import LiveSwarm

_LOOK_EVERY_S = 0.1


class LiveRounds:
    """`on_round` is told of each closed round, with its duration in the fleet's time."""

    def __init__(
        self, loop: EventLoop, path: Path, speed: float, on_round: Callable[[Record], None]
    ) -> None:
        """`path` is where the coordinator will write its history."""
        self.records: list[Record] = []
        """As they are in the history: their seconds are real ones."""
        self.marks: list[RoundMark] = []
        """In the fleet's time."""
        self._loop = loop
        self._path = path
        self._speed = speed
        self._on_round = on_round
        self._swarm: LiveSwarm | None = None
        self._offered = RoundId(0)
        """The newest round that any client has heard of."""
        self._size = 0

    def follow(self, swarm: LiveSwarm) -> None:
        """From its start on."""
        self._swarm = swarm
        self._look()

    def now(self) -> Seconds:
        """Of the fleet's time; 0 before it begins."""
        return self._swarm.clock.now() if self._swarm is not None else 0.0

    def see(self, _client: ClientId, event: session.Event) -> None:
        """What happens to a client, before it acts on it."""
        if isinstance(event, session.Offered) and event.offer.round > self._offered:
            # The round before it is in the history, and nobody has begun to fetch its model.
            self._offered = event.offer.round
            self.read()

    def read(self) -> None:
        """What is new in the history, if anything."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._size or self._swarm is None:
            return
        self._size = size
        for record in history.read_whole(self._path)[len(self.records) :]:
            since_s = (datetime.now(UTC) - datetime.fromisoformat(record.closed)).total_seconds()
            closed_s = self.now() - since_s * self._speed
            self.records.append(record)
            self.marks.append(
                RoundMark(
                    round=record.round,
                    closed_s=max(0.0, closed_s),
                    bytes_up=self._swarm.bytes_up,
                    bytes_down=self._swarm.bytes_down,
                )
            )
            fleets_s = record.duration_s * self._speed
            self._on_round(structs.replace(record, duration_s=fleets_s))

    def _look(self) -> None:
        self.read()
        self._loop.call_in(_LOOK_EVERY_S, self._look)

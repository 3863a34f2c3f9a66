"""What the coordinator and all clients of one storm have in common."""

from dataclasses import dataclass, field
from typing import Protocol

from coordinator.rounds import Rules
from fedmqtt.effects import Seconds
from fedmqtt.messages import Evaluation, Update
from fedmqtt.topics import Digest
from fleet_sim.broker import Broker
from fleet_sim.clock import Clock
from fleet_sim.weather import Weather

CHUNK_BYTES = 1024


class FederationPlan(Protocol):
    """What the simulated coordinator is told."""

    @property
    def seed(self) -> int: ...

    @property
    def commit_s(self) -> Seconds:
        """Mean time that its disk takes for one group of answers."""

    def round_rules(self, epoch: int) -> Rules: ...


@dataclass(slots=True)
class Scene:
    plan: FederationPlan
    weather: Weather
    clock: Clock
    broker: Broker
    calm_at: Seconds | None = None
    """When the storm ended."""
    contents: dict[Digest, Update | Evaluation] = field(default_factory=dict)
    """What the announced answers are, instead of the bytes of their chunks."""

    @property
    def now(self) -> Seconds:
        return self.clock.now

"""What the coordinator and all clients of one storm have in common."""

from dataclasses import dataclass, field
from typing import Protocol

from coordinator.config import Transfer
from coordinator.rounds import Rules
from fedmqtt.effects import Seconds
from fedmqtt.messages import Evaluation, Update
from fedmqtt.topics import ClientId, Digest
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

    @property
    def transfer(self) -> Transfer:
        """How models and large answers travel."""

    def round_rules(self, epoch: int) -> Rules: ...


@dataclass(slots=True)
class Scene:
    plan: FederationPlan
    weather: Weather
    clock: Clock
    broker: Broker
    calm_at: Seconds | None = None
    """When the storm ended."""
    contents: dict[tuple[ClientId, Digest], Update | Evaluation] = field(default_factory=dict)
    """What each client's announced answers are, instead of the bytes of their chunks. Two clients
    may have answers of the same bytes, and each of them its own."""
    liars: set[ClientId] | None = None
    """Who may be blamed for what it sends; None: anybody, as where real tensors may diverge."""

    @property
    def now(self) -> Seconds:
        return self.clock.now

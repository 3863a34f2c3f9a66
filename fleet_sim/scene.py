"""What the coordinator and all clients of one storm have in common."""

from dataclasses import dataclass, field

from fedmqtt.effects import Seconds
from fedmqtt.messages import Evaluation, Update
from fedmqtt.topics import Digest
from fleet_sim.broker import Broker
from fleet_sim.clock import Clock
from fleet_sim.plan import Plan
from fleet_sim.weather import Weather

CHUNK_BYTES = 1024


@dataclass(slots=True)
class Scene:
    plan: Plan
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

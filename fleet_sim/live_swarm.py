"""A fleet of real clients in one process, at a real broker: each its own agent, connection, outbox.

    plans ──▶ LiveClient ──▶ Agent ──▶ MqttLink ──▶ LinkWeather ──▶ one TCP connection ──▶ broker
                 │             └──▶ DeviceTrainers ──▶ a few processes that all share
                 └── comes, leaves, crashes, in virtual seconds

Everything happens on one event loop: a descriptor for each client, no thread, no process. What is
made up is the network, the power and the time that work takes; the programs are those of devices.
"""

import resource
from collections.abc import Iterable
from pathlib import Path

from msgspec import structs

from edge_client import session
from edge_client.agent import Trainers
from edge_client.config import ClientConfig
from fedmqtt.event_loop import EventLoop
from fedmqtt.folder_lock import FolderLock
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.topics import ClientId
from fleet_sim.connect_gate import CONNECTS_AT_ONCE, ConnectGate
from fleet_sim.device_trainers import Overruns
from fleet_sim.live_client import LiveClient, LivePlan, Surroundings, Watch
from fleet_sim.live_clock import LiveClock
from fleet_sim.live_speed import client_at_speed
from fleet_sim.shared_models import MODELS_KEPT, KeepingTrainers, SharedModels

_DESCRIPTORS_BESIDE = 512
"""Models that are just being written, answers that are being read, trainers' pipes."""


class LiveSwarmError(Exception):
    """This machine or this broker cannot carry the swarm; one sentence says why."""


class LiveSwarm:
    """`template` is every client's configuration but for what its plan says. `state` is the folder
    of their outboxes and models, this swarm's alone until `stop`.

    Virtual time runs `speed` times as fast as real time, from `start` on: in plans and link
    weather, and in the seconds of the template (see `live_speed.py`).

    Raises LiveSwarmError, FolderInUse, and OSError where the folder cannot be made.
    """

    def __init__(
        self,
        loop: EventLoop,
        broker: BrokerUrl,
        template: ClientConfig,
        plans: Iterable[LivePlan],
        trainers: Trainers,
        state: Path,
        *,
        seed: int = 0,
        speed: float = 1.0,
        connects_at_once: int = CONNECTS_AT_ONCE,
        models_kept: int = MODELS_KEPT,
        watch: Watch = lambda client, event: None,
    ) -> None:
        self._plans = tuple(plans)
        if broker.tls and any(plan.link or plan.silent_share for plan in self._plans):
            raise LiveSwarmError(f"weather on links needs a broker without TLS, not {broker}")
        allow_descriptors(len(self._plans))
        self._lock = FolderLock(state)
        self._loop = loop
        self._broker = broker
        self._template = client_at_speed(template, speed)
        self._state = state
        self._seed = seed
        self._speed = speed
        self._watch = watch
        self._models = SharedModels(models_kept)
        self._trainers = KeepingTrainers(self._models, trainers)
        self.gate = ConnectGate(loop, connects_at_once)
        self.overruns = Overruns()
        self.clients: dict[ClientId, LiveClient] = {}
        """Filled by `start`."""
        self._counted: list[LiveClient] = []

    def start(self) -> None:
        """Begin virtual time. Who is online connects, so many at a time."""
        self.clock = LiveClock(self._loop, self._speed)
        here = Surroundings(
            self._loop,
            self.clock,
            self._broker,
            self.gate,
            self._trainers,
            self._see,
            self._seed,
            self.overruns,
        )
        for plan in self._plans:
            client = LiveClient(here, self._config(plan), plan)
            self.clients[client.name] = client
        for client in self.clients.values():
            client.start()
        self._counted = [self.clients[ClientId(one.name)] for one in self._plans if one.is_counted]

    def stop(self) -> None:
        """End them all as if by a loss of power: thousands of goodbyes would take a minute.

        The broker tells of them by their wills. What they owe stays in their outboxes.
        """
        for client in self.clients.values():
            client.stop()
        self._lock.release()

    @property
    def connected_count(self) -> int:
        return sum(client.is_connected for client in self.clients.values())

    @property
    def bytes_up(self) -> int:
        """By all clients that are counted, since the start."""
        return sum(client.bytes_up for client in self._counted)

    @property
    def bytes_down(self) -> int:
        return sum(client.bytes_down for client in self._counted)

    @property
    def cuts(self) -> int:
        """Connections broken in the middle of a transfer."""
        return sum(client.weather.cuts for client in self.clients.values())

    @property
    def crashes(self) -> int:
        return sum(client.crashes for client in self.clients.values())

    def _config(self, plan: LivePlan) -> ClientConfig:
        model_bytes_max = self._template.model_bytes_max
        if plan.hardware is not None:
            model_bytes_max = int(min(model_bytes_max, plan.hardware.model_bytes_max))
        return structs.replace(
            self._template,
            id=plan.name,
            label=plan.label,
            data=plan.data,
            model_bytes_max=model_bytes_max,
            purposes=plan.purposes,
            state=str(self._state / plan.name),
        )

    def _see(self, client: ClientId, event: session.Event) -> None:
        if isinstance(event, session.ModelFetched):
            path = self._state / client / "models" / f"{event.digest}.model"
            self._models.share(event.digest, path)
        self._watch(client, event)


def allow_descriptors(connections: int) -> None:
    """Raise this process's limit of open files so that so many connections fit, if it may.

    Children started later, a broker among them, have the same limit. Raises LiveSwarmError.
    """
    needed = connections + _DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise LiveSwarmError(
            f"{connections} connections need {needed} open files, and this process may have"
            f" {hard}: raise the limit (ulimit -Hn {needed}, as root) or simulate fewer clients"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

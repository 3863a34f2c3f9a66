"""One device of a live fleet: a real agent, and the plan of what happens to it.

Its agent is started anew after each crash, on the same folder, so that it remembers what a device
remembers: its outbox. The network outlasts the agent.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edge_client import session
from edge_client.agent import Agent, Trainers
from edge_client.conditions import read
from edge_client.config import ClientConfig
from edge_client.training_job import Job
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import PURPOSES, Purpose
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.topics import ClientId
from fleet_sim.clock import stream
from fleet_sim.connect_gate import ConnectGate
from fleet_sim.device_trainers import Device, DeviceTrainers, Overruns
from fleet_sim.hardware import Hardware
from fleet_sim.intervals import DAY_S, Interval
from fleet_sim.link_weather import LinkWeather
from fleet_sim.links import Link
from fleet_sim.live_clock import LiveClock

Watch = Callable[[ClientId, session.Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlan:
    """All that is made up about one client. All seconds are virtual, since the swarm's start."""

    name: str
    purposes: tuple[Purpose, ...] = PURPOSES
    label: str = ""
    data: str = "."
    """The folder that its trainer is given."""
    intervals: Iterable[tuple[Seconds, Seconds]] = ((0.0, math.inf),)
    """When it is online: from, until; in order and not overlapping. May be endless."""
    silent_share: float = 0.0
    """Of its departures, so many leave a half-open connection, which the broker notices by its
    keepalive or not at all. The others are resets."""
    link: Link | None = None
    """None: as good as this machine's."""
    hardware: Hardware | None = None
    """How fast it works, and what its sensors say. None: as this machine."""
    train_samples: int = 0
    evaluate_samples: int = 0
    """How much data it has, which says how long `hardware` takes."""
    dies_after: Callable[[Job], float | None] = lambda job: None
    """After which share of its time this job kills the trainer; None: it does not."""
    outages: Iterable[Interval] = ()
    """When it has no power: from, until; in order and apart. May be endless."""
    is_counted: bool = True
    """Whether what it carries is the fleet's."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all clients of a swarm share."""

    loop: EventLoop
    clock: LiveClock
    broker: BrokerUrl
    gate: ConnectGate
    trainers: Trainers
    watch: Watch
    seed: int
    overruns: Overruns = field(default_factory=Overruns)


class LiveClient:
    def __init__(self, here: Surroundings, config: ClientConfig, plan: LivePlan) -> None:
        self.name = ClientId(config.id)
        self.crashes = 0
        self._here = here
        self._config = config
        self._plan = plan
        self._intervals = iter(plan.intervals)
        self._outages = iter(plan.outages)
        self._leaving = stream(here.seed, "leaving", plan.name)
        self.weather = LinkWeather(
            here.loop,
            here.clock,
            here.gate,
            # As in virtual time. "link" is what the link itself was drawn from.
            stream(here.seed, "line", plan.name),
            plan.link,
            falls_silent=plan.silent_share > 0,
        )
        self._trainers = DeviceTrainers(
            here.clock,
            here.trainers,
            Device(plan.hardware, plan.train_samples, plan.evaluate_samples, self._watch_battery),
            plan.dies_after,
            here.overruns,
        )
        self.agent: Agent | None = None
        """None between a crash and the start after it."""
        self._presence: Timer | None = None
        self._fate: Timer | None = None
        """Of the next crash, or of the start after it."""
        self._has_failed = False
        """Its power has, until it is back."""
        self._is_empty = False
        """Its battery is, until it is charged."""
        self._battery: Timer | None = None
        """When it reads another percent."""
        self._is_over = False
        self._carried = (0, 0)
        """By the links of earlier lives: bytes up and down."""

    def start(self) -> None:
        self._begin()
        self._await_arrival()
        self._await_outage()
        self._watch_battery()

    def stop(self) -> None:
        """The simulation ends: as if it lost its power, for good."""
        self._is_over = True
        for timer in (self._presence, self._fate, self._battery):
            if timer is not None:
                timer.cancel()
        self._end()
        self.weather.close()

    @property
    def is_online(self) -> bool:
        """Whether its network is there; its agent may still be on its way to the broker."""
        return not self.weather.is_gone

    @property
    def is_connected(self) -> bool:
        return self.agent is not None and self.agent.link.is_up

    @property
    def bytes_up(self) -> int:
        return self._carried[0] + (self.agent.link.bytes_sent if self.agent else 0)

    @property
    def bytes_down(self) -> int:
        return self._carried[1] + (self.agent.link.bytes_received if self.agent else 0)

    # Its connectivity

    def come(self) -> None:
        self.weather.come()

    def leave(self, *, silently: bool = False) -> None:
        """By a reset; or silently, leaving a connection that is half-open.

        Only a client whose plan has a link or a `silent_share` can leave silently.
        """
        assert self.weather.is_made_up or not silently
        link = self.agent.link if self.agent is not None else None
        if link is not None and not silently and (link.is_up or self.weather.is_connecting):
            # It tries to be back at once, and waits in its network for that.
            link.cut(0.0)
        self.weather.go()

    def _await_arrival(self) -> None:
        interval = next(self._intervals, None)
        if interval is not None:
            since, until = interval
            self._presence = self._here.clock.call_at(since, lambda: self._arrive(until))

    def _arrive(self, until: Seconds) -> None:
        self.come()
        self._presence = self._here.clock.call_at(until, lambda: self._depart(until))

    def _depart(self, at: Seconds) -> None:
        following = next(self._intervals, None)
        if following is not None and following[0] <= at:
            # Two intervals that touch are one.
            self._arrive(following[1])
            return
        self.leave(silently=self._leaving.random() < self._plan.silent_share)
        if following is not None:
            since, until = following
            self._presence = self._here.clock.call_at(since, lambda: self._arrive(until))

    # Its power

    def crash(self, until: Seconds) -> None:
        """Lose everything but the disk, and start again at that moment."""
        if self._fate is not None:
            self._fate.cancel()
        self._has_failed = True
        self.crashes += self.agent is not None
        self._end()
        self._fate = self._here.clock.call_at(until, self._mend)

    def _mend(self) -> None:
        self._has_failed = False
        self._boot()
        self._await_outage()

    def _await_outage(self) -> None:
        now = self._here.clock.now()
        begins, ends = next((one for one in self._outages if one[1] > now), (math.inf, math.inf))
        if begins < math.inf:
            self._fate = self._here.clock.call_at(begins, lambda: self.crash(ends))

    def _watch_battery(self) -> None:
        """Wake when it reads otherwise than now: its level ends the device, as an outage does."""
        hardware, clock = self._plan.hardware, self._here.clock
        if self._battery is not None:
            self._battery.cancel()
        if hardware is not None and hardware.charge is not None and not self._is_over:
            until = clock.now() + DAY_S
            changes = hardware.changes(clock.now(), until)
            self._battery = clock.call_at(min([*changes, until]), self._feel_battery)

    def _feel_battery(self) -> None:
        hardware, now = self._plan.hardware, self._here.clock.now()
        assert hardware is not None
        if hardware.is_empty(now):
            self._is_empty = True
            self._end()
        elif self._is_empty and hardware.reading(now).charging:
            self._is_empty = False
            self._boot()
        self._watch_battery()

    def _boot(self) -> None:
        """If it has both, power and charge."""
        if not self._has_failed and not self._is_empty:
            self._begin()

    def _begin(self) -> None:
        here, hardware = self._here, self._plan.hardware
        self.agent = Agent(
            here.loop,
            here.broker,
            self._config,
            self._trainers,
            lambda event: here.watch(self.name, event),
            read if hardware is None else lambda: hardware.reading(here.clock.now()),
            self.weather,
        )
        self.agent.start()

    def _end(self) -> None:
        if self.agent is not None:
            self.agent.vanish()
            self.weather.lose_power()
            self._carried = (self.bytes_up, self.bytes_down)
            self.agent = None

"""Many real clients in one process: each its own agent, MQTT session, data and outbox.

They share an event loop and a few trainers, so that two cores are enough for dozens. Only their
connectivity is made up (`Departures`): a share of them is always away, and some of those invited
vanish in the middle of their work. Every departure is a connection cut without a goodbye.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from edge_client import session
from edge_client.agent import Agent, Trainers
from edge_client.config import ClientConfig
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import Offer
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.topics import ClientId


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """How clients come and go."""

    away_share: float = 1 / 3
    """This share of all is away at any moment. When one leaves, the one away longest returns."""
    leave_every_s: Seconds = 0.25
    """So often somebody leaves, whoever it is."""
    vanish_share: float = 0.1
    """Of those invited to train, at least this share leaves while it works on the round."""


@dataclass(slots=True)
class Swarm:
    loop: EventLoop
    seed: int
    departures: Departures
    agents: dict[ClientId, Agent] = field(default_factory=dict)
    away: list[ClientId] = field(default_factory=list)
    """Who is away, longest first."""
    vanished: int = 0
    """Clients cut while they worked on a round."""
    _doomed: set[ClientId] = field(default_factory=set)
    """Invited to the open round, and to vanish when their work begins."""
    _doomed_in: tuple[str, int] | None = None
    _departure: Timer | None = None

    def add(self, broker: BrokerUrl, config: ClientConfig, trainers: Trainers) -> None:
        client = ClientId(config.id)
        self.agents[client] = Agent(
            self.loop, broker, config, trainers, lambda event: self._watch(client, event)
        )

    def start(self) -> None:
        """Connect all but those who begin away."""
        for agent in self.agents.values():
            agent.start()
        clients = sorted(self.agents)
        # One at least must be there to leave.
        count = min(math.ceil(len(clients) * self.departures.away_share), len(clients) - 1)
        self.away = Random(f"{self.seed}/away").sample(clients, count)
        for client in self.away:
            self.agents[client].link.cut(None)
        if self.away:
            self._let_one_leave(Random(f"{self.seed}/leave"))

    def stop(self) -> None:
        # First: who comes back while the others say goodbye would stay.
        if self._departure is not None:
            self._departure.cancel()
        for agent in self.agents.values():
            agent.stop()

    @property
    def bytes_up(self) -> int:
        return sum(agent.link.bytes_sent for agent in self.agents.values())

    @property
    def bytes_down(self) -> int:
        return sum(agent.link.bytes_received for agent in self.agents.values())

    def _let_one_leave(self, chance: Random) -> None:
        self._leave(chance.choice(sorted(self.agents.keys() - set(self.away))))
        self._departure = self.loop.call_in(
            self.departures.leave_every_s, lambda: self._let_one_leave(chance)
        )

    def _leave(self, client: ClientId) -> None:
        self.agents[client].link.cut(None)
        self.away.append(client)
        self.agents[self.away.pop(0)].link.open()

    def _watch(self, client: ClientId, event: session.Event) -> None:
        match event:
            case session.Offered(_, offer) if (offer.run, offer.round) != self._doomed_in:
                self._doomed_in = (offer.run, offer.round)
                self._doomed = set(self._choose_doomed(offer))
            case session.ModelFetched() if client in self._doomed:
                self._doomed.discard(client)
                # Not within this event: the work it begins has to begin first.
                self.loop.post(lambda: self._vanish(client))
            case _:
                return

    def _choose_doomed(self, offer: Offer) -> Sequence[ClientId]:
        invited = [client for client in offer.train if client in self.agents]
        count = math.ceil(len(offer.train) * self.departures.vanish_share)
        return Random(f"{self.seed}/vanish/{offer.round}").sample(invited, min(count, len(invited)))

    def _vanish(self, client: ClientId) -> None:
        if client not in self.away:
            self.vanished += 1
            self._leave(client)

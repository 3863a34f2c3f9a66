"""The demonstration's fleet: a live swarm in which somebody leaves all the time.

A share of the clients is always away, and some of those invited vanish in the middle of their
work. Unlike the connectivity of a plan this follows what happens: who leaves next depends on who is
there and who was invited. Every departure is a connection cut without a goodbye.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edge_client import session
from edge_client.agent import Trainers
from edge_client.config import ClientConfig
from fedmqtt import sortition
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import Offer, Purpose
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.topics import ClientId
from fleet_sim.live_client import LivePlan
from fleet_sim.live_swarm import LiveSwarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """How clients come and go."""

    away_share: float = 1 / 3
    """This share of all is away at any moment. When one leaves, the one away longest returns."""
    leave_every_s: Seconds = 0.25
    """So often somebody leaves, whoever it is."""
    vanish_share: float = 0.1
    """Of those invited to train, at least this share leaves while it works on the round."""


class Swarm:
    """`clients` says who there is and what for; `template` is the rest of their configuration.

    Raises as `LiveSwarm` does.
    """

    def __init__(
        self,
        loop: EventLoop,
        broker: BrokerUrl,
        template: ClientConfig,
        clients: dict[str, Purpose],
        trainers: Trainers,
        state: Path,
        *,
        seed: int,
        departures: Departures,
    ) -> None:
        plans = (
            # Whether it is there is decided as we go.
            LivePlan(
                name=name,
                purposes=(purpose,),
                # As phone-07 and watch-07 are called.
                label=name.partition("-")[0],
                data=template.data,
                intervals=(),
            )
            for name, purpose in clients.items()
        )
        self.live = LiveSwarm(
            loop, broker, template, plans, trainers, state, seed=seed, watch=self._watch
        )
        self.away: list[ClientId] = []
        """Who is away, longest first."""
        self.vanished = 0
        """Clients cut while they worked on a round."""
        self._loop = loop
        self._seed = seed
        self._departures = departures
        self._doomed: set[ClientId] = set()
        """Invited to the open round, and to vanish when their work begins."""
        self._doomed_in: tuple[str, int] | None = None
        self._departure: Timer | None = None

    def start(self) -> None:
        """Connect all but those who begin away."""
        self.live.start()
        clients = sorted(self.live.clients)
        # One at least must be there to leave.
        count = min(math.ceil(len(clients) * self._departures.away_share), len(clients) - 1)
        self.away = Random(f"{self._seed}/away").sample(clients, count)
        for client in clients:
            if client not in self.away:
                self.live.clients[client].come()
        if self.away:
            self._let_one_leave(Random(f"{self._seed}/leave"))

    def stop(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
        self.live.stop()

    def _let_one_leave(self, chance: Random) -> None:
        self._leave(chance.choice(sorted(self.live.clients.keys() - set(self.away))))
        self._departure = self._loop.call_in(
            self._departures.leave_every_s, lambda: self._let_one_leave(chance)
        )

    def _leave(self, client: ClientId) -> None:
        self.live.clients[client].leave()
        self.away.append(client)
        self.live.clients[self.away.pop(0)].come()

    def _watch(self, client: ClientId, event: session.Event) -> None:
        match event:
            case session.Offered(_, offer) if (offer.run, offer.round) != self._doomed_in:
                self._doomed_in = (offer.run, offer.round)
                self._doomed = set(self._choose_doomed(offer))
            case session.ModelFetched() if client in self._doomed:
                self._doomed.discard(client)
                # Not within this event: the work it begins has to begin first.
                self._loop.post(lambda: self._vanish(client))
            case _:
                return

    def _choose_doomed(self, offer: Offer) -> Sequence[ClientId]:
        live = sorted(self.live.clients)
        invited = [client for client in live if sortition.invites(offer, client, "train")]
        # By sortition, nobody is told of those in other programs.
        count = math.ceil((len(offer.train) or len(invited)) * self._departures.vanish_share)
        chance = Random(f"{self._seed}/vanish/{offer.round}")
        return chance.sample(invited, min(count, len(invited)))

    def _vanish(self, client: ClientId) -> None:
        if client not in self.away:
            self.vanished += 1
            self._leave(client)

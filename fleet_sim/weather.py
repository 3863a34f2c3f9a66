"""How bad the world is: what is drawn from the seed of a storm.

Swarm testing: in each storm some faults are off entirely and some are extreme, because a uniform
mix of everything hides what only one fault can show.
"""

import random
from dataclasses import dataclass, fields
from typing import Any

from fedmqtt.effects import Seconds
from fleet_sim.clock import stream

FOREVER: Seconds = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Shares are of messages, clients or occasions, from 0 to 1; times are means."""

    loss: float = 0.0
    offers_lost: float = 0.0
    """Offers on the board that the broker does not give to a client that is connected."""
    duplication: float = 0.0
    delay_s: Seconds = 0.05
    queue_max: int = 1000
    """What a session keeps for who is away."""
    will_s: Seconds = 5.0
    """How long the broker takes at most to notice that a link is dead."""
    counts_down: bool = True
    """MQTT 5: the broker tells how long a retained offer is still good."""
    online_s: Seconds = FOREVER
    offline_s: Seconds = 60.0
    blips: float = 0.0
    """Departures that last a few seconds only."""
    polite: float = 0.5
    """Departures that say goodbye; the others are cut off."""
    reboots: float = 0.0
    """Returns with nothing but the disk."""
    power_s: Seconds = FOREVER
    """Between two moments at which a client loses its power, whatever it is doing."""
    power_back_s: Seconds = 20.0
    client_dies: float = 0.0
    """Things a client is about to do, and then has no power for."""
    coordinator_online_s: Seconds = FOREVER
    coordinator_offline_s: Seconds = 20.0
    coordinator_up_s: Seconds = FOREVER
    """Between its start and its being killed."""
    coordinator_down_s: Seconds = 20.0
    coordinator_dies: float = 0.0
    """Things the coordinator is about to do, and is killed before it does them."""
    broker_up_s: Seconds = FOREVER
    """Between its start and its being killed."""
    broker_down_s: Seconds = 10.0
    broker_keeps: bool = False
    """What it knew it still knows after a crash, but for what was in flight."""
    same_machine: bool = False
    """A crash of the broker is one of the coordinator too."""
    limits_vary: bool = False
    """Each time that the coordinator connects, the broker may carry packets of another size."""
    download_s: Seconds = 1.0
    download_failures: float = 0.0
    train_s: Seconds = 10.0
    train_spread: float = 0.0
    """Sigma of the lognormal factor between devices."""
    trainer_crashes: float = 0.0
    stragglers: float = 0.0
    """Trainers that are done in the moment they are told to stop."""
    large_answers: float = 0.0
    """Answers that need more than one message."""
    unplugged: float = 0.0
    """Occasions at which the owner's conditions stop holding for a while."""
    liars: float = 0.0
    """Clients that now and then send answers that nobody asked for, or nonsense."""
    old_debts: float = 0.0
    """Clients that still owe an answer to an older run."""
    average_s: Seconds = 0.5

    @classmethod
    def from_seed(cls, seed: int) -> "Weather":
        chance = stream(seed, "weather")
        return cls(
            loss=_fault(chance, 0.1, 0.4),
            # A stream of its own: all else of a seed's weather is as it was.
            offers_lost=_fault(stream(seed, "offers"), 0.3, 0.8),
            duplication=_fault(chance, 0.1, 0.6),
            delay_s=chance.choice([0.01, 0.2, 3.0]),
            queue_max=chance.choice([1000, 1000, 50, 3]),
            will_s=chance.choice([0.1, 10.0, 60.0]),
            counts_down=chance.random() < 0.5,
            online_s=chance.choice([FOREVER, 600.0, 60.0, 15.0]),
            offline_s=chance.choice([5.0, 60.0, 300.0]),
            blips=_fault(chance, 0.5, 1.0),
            polite=chance.choice([0.0, 0.5, 1.0]),
            reboots=_fault(chance, 0.2, 0.8),
            coordinator_online_s=chance.choice([FOREVER, FOREVER, 100.0, 20.0]),
            coordinator_offline_s=chance.choice([2.0, 60.0]),
            download_s=chance.choice([0.1, 3.0, 20.0]),
            download_failures=_fault(chance, 0.1, 0.6),
            train_s=chance.choice([1.0, 10.0, 40.0]),
            train_spread=chance.choice([0.0, 0.5, 1.5]),
            trainer_crashes=_fault(chance, 0.1, 0.6),
            stragglers=_fault(chance, 0.3, 1.0),
            large_answers=_fault(chance, 0.3, 1.0),
            unplugged=_fault(chance, 0.2, 0.7),
            liars=_fault(chance, 0.1, 0.5),
            average_s=chance.choice([0.0, 0.5, 20.0]),
            power_s=chance.choice([FOREVER, FOREVER, 300.0, 40.0]),
            power_back_s=chance.choice([2.0, 60.0]),
            client_dies=_fault(chance, 0.02, 0.2),
            coordinator_up_s=chance.choice([FOREVER, FOREVER, 200.0, 30.0, 5.0]),
            coordinator_down_s=chance.choice([0.5, 10.0, 60.0]),
            coordinator_dies=_fault(chance, 0.01, 0.1),
            broker_up_s=chance.choice([FOREVER, FOREVER, 200.0, 40.0]),
            broker_down_s=chance.choice([1.0, 30.0, 300.0]),
            broker_keeps=chance.random() < 0.5,
            old_debts=_fault(chance, 0.1, 0.5),
            same_machine=chance.random() < 0.3,
            limits_vary=chance.random() < 0.3,
        )

    def calmed(self, work_s: Seconds) -> "Weather":
        """The same fleet and federation when nothing is wrong any more, and clients are quick."""
        return Weather(
            download_s=work_s,
            train_s=work_s,
            counts_down=self.counts_down,
            average_s=self.average_s,
        )


def _fault(chance: random.Random, usual: float, extreme: float) -> float:
    """Off in half of the storms, extreme in a fifth."""
    kind = chance.random()
    if kind < 0.5:
        return 0.0
    low, high = (0.0, usual) if kind < 0.8 else (usual, extreme)
    return round(chance.uniform(low, high), 3)


def options_of(drawn: Any) -> list[str]:
    """Every option of a dataclass as `name=value`, in the order in which they are declared."""
    return [f"{one.name}={getattr(drawn, one.name)}" for one in fields(drawn)]

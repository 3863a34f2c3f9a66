"""What fails on a client's device, drawn from the seed: at the same moments in both modes.

power       ──────┤ off ├────────────┤ off ├──
a training  ─────────────────X                     dies after a share of its time, or does not
"""

from collections.abc import Iterator
from random import Random

from fedmqtt.topics import ClientId, RoundId
from fleet_sim.clock import stream
from fleet_sim.fleet import Faults
from fleet_sim.intervals import DAY_S, Interval

TRAINER_DIED = "the trainer did not survive"


def outages(faults: Faults, seed: int, client: ClientId) -> Iterator[Interval]:
    """When its power fails: from, until; in order and apart. Without end, or none at all."""
    chance, at = stream(seed, "outages", client), 0.0
    while faults.reboots_per_day:
        begins = at + chance.expovariate(faults.reboots_per_day / DAY_S)
        at = begins + chance.expovariate(1 / faults.reboot_s)
        yield begins, at


class TrainerCrashes:
    """Of one client's trainings, which die and when: drawn anew for each attempt at a round."""

    __slots__ = ("_chance", "_client", "_round", "_seed", "_share")

    def __init__(self, faults: Faults, seed: int, client: ClientId) -> None:
        self._share = faults.trainer_crashes
        self._seed = seed
        self._client = client
        self._round: RoundId | None = None
        self._chance: Random | None = None

    def next(self, round_id: RoundId) -> float | None:
        """After which share of its time the training that begins now dies; None: it does not."""
        if not self._share:
            return None
        if self._chance is None or round_id != self._round:
            # What is drawn for a round does not depend on which rounds it was invited to before.
            self._round = round_id
            self._chance = stream(self._seed, "trainer", self._client, round_id)
        dies, share = self._chance.random() < self._share, self._chance.random()
        return share if dies else None

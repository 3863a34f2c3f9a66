"""Every client that is online and willing is as likely to be invited as any other.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, algorithm 1 (the random set of m clients).
"""

from collections.abc import Sequence
from random import Random

from msgspec import Struct

from coordinator.selection import Fleet
from fedmqtt.topics import ClientId

GOES_BY = "nothing"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    return tuple(sorted(chance.sample(candidates, count)))

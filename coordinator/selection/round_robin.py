"""Who was invited least recently is invited first; chance decides between equals.

    S_t = the m candidates with the smallest last(k),   last(k) = the round k was invited to last

Everybody has a turn before anybody has a second one, and who was away when its turn came has it as
soon as it is back: those who are seldom online answer as often as they can.

Source: the cyclic participation of Cho et al., "On the Convergence of Federated Averaging with
Cyclic Client Participation", ICML 2023, section 2, without fixed groups, as clients come and go.
"""

from collections.abc import Sequence
from random import Random

from msgspec import Struct

from coordinator.known import UNKNOWN
from coordinator.selection import Fleet
from fedmqtt.topics import ClientId

GOES_BY = "nothing"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


def select(
    candidates: Sequence[ClientId], count: int, chance: Random, known: Fleet, settings: Settings
) -> tuple[ClientId, ...]:
    # Sorting keeps the order of equals, which is left to chance.
    order = chance.sample(candidates, len(candidates))
    order.sort(key=lambda one: known.get(one, UNKNOWN).invited_last)
    return tuple(sorted(order[:count]))

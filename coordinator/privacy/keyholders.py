"""Answers are masked, and any `tolerated` + 1 of several keyholders open a sum of them.

    coordinator            masked answers, and the sum over those of a round, floor of them at least
    `tolerated` keyholders, also together with the coordinator and with each other: nothing more
    `tolerated` + 1 of them, together with the coordinator: every single answer
    broker                 masked answers, sealed seeds, sums of masks: with those the sum too

One answer has a mask for each choice of `tolerated` places, and its seed is held by all others. So
`places` - `tolerated` - 1 keyholders may be away without anybody noticing. Two sets that open a sum
have one keyholder in common at least, who opens one list of a round alone: else two halves could be
shown two lists, and their sums would differ by one client. With places = 4 and tolerated = 2 they
have two in common, and a coordinator that works with one keyholder cannot do it either.
"""

from coordinator.config import Privacy
from fedmqtt.settings import SettingsError

MASKS = True


def places(privacy: Privacy) -> tuple[int, int]:
    if privacy.tolerated >= privacy.places:
        raise SettingsError(
            f"privacy.tolerated is {privacy.tolerated}, of privacy.places = {privacy.places}: more"
            " keyholders than may leak must be there to open a sum"
        )
    if privacy.places >= 2 * (privacy.tolerated + 1):
        raise SettingsError(
            f"privacy.tolerated is {privacy.tolerated}, of privacy.places = {privacy.places}: two"
            f" halves of the keyholders could open two sums; privacy.tolerated ="
            f" {privacy.places // 2} is the least"
        )
    return privacy.places, privacy.tolerated

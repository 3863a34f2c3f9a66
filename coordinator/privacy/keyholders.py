"""Answers are masked, and any `tolerated` + 1 of several keyholders open a sum of them.

    coordinator            masked answers, and the sum over those of a round, floor of them at least
    `tolerated` keyholders, also together with the coordinator and with each other: nothing more
    `tolerated` + 1 of them, together with the coordinator: every single answer
    broker                 masked answers, sealed seeds, sums of masks: with those the sum too

One answer has a mask for each choice of `tolerated` places, and its seed is held by all others. So
`places` - `tolerated` - 1 keyholders may be away without anybody noticing. Of four (`places = 4`)
two sets that open a sum always share an honest one, though one of them leaks to the coordinator:
then no coordinator can have two different sums of one round opened.
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
    return privacy.places, privacy.tolerated

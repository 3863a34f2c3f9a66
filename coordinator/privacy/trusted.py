"""Answers are masked, and one keyholder, which everybody trusts, adds up the masks.

    coordinator    masked answers, and the sum over those of a round, floor of them at least
    keyholder      seeds of masks, and never an answer
    broker         masked answers, sealed seeds, sums of masks: with those it learns the sum too

The coordinator and the keyholder together can read every single answer: they must not be one
operator's. While the keyholder is away no round opens.
"""

from coordinator.config import Privacy

MASKS = True


def places(privacy: Privacy) -> tuple[int, int]:
    return 1, 0

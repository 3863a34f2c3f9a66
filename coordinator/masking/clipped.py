"""How much of a round's answers was clipped before it was masked: for who sets the limits. Pure.

Known of all answers together, and of none alone. Devices tell nothing of it where there is noise.
"""

from msgspec import Struct


class Clipped(Struct, frozen=True, kw_only=True):
    """Shares, 0 to 1; an answer that is in the sum several times counts as often."""

    numbers: float
    """Of those that were sent: to `privacy.change_max`, or to the range of their block. Of one
    answer 65,536 are told of at most: of a larger model it may have been more."""
    norms: float
    """Of the answers, those that were longer than `privacy.norm_max`."""
    measures: float = 0.0
    """Of the clients that measured, where that is told: those of whom a figure was larger than can
    be told, or not all samples count."""

    def sentence(self) -> str:
        """For people; empty where nothing was."""
        told = [
            f"{share:.2%} of {what}"
            for share, what in (
                (self.numbers, "the numbers that were sent, at least"),
                (self.norms, "the answers' norms"),
                (self.measures, "what clients measured"),
            )
            if share
        ]
        return f"clipped: {', '.join(told)}" if told else ""


def share(some: int, of_all: int) -> float:
    """To six digits; a client that lies may have told anything."""
    return round(min(1.0, some / of_all), 6) if of_all else 0.0

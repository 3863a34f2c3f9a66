"""Why keyholders would have a client's answer in no sum: in words, and whose doing it is. Pure.

Most of what a keyholder may say is no client's doing: its owner has an old list of enrolled
devices, or of revoked keys, or a device has been in as many sums as it may be. Its answer is left
out of the sum all the same, as that keyholder opens none with it.
"""

from collections.abc import Mapping
from typing import Final

from coordinator.masking.opening import Rules
from fedmqtt.messages import WhyUnfit

_IN_WORDS: Final[Mapping[WhyUnfit, str]] = {
    "seal": "what it sealed does not hold",
    "commitment": "a seed that it sealed is not the one that it committed to",
    "signature": "what it signed does not hold",
    "revoked": "its key was revoked",
    "unenrolled": "it is on no list of enrolled devices",
    "spent": "it was in as many sums as it may be",
    "twin": "it has one key with another client",
}
_ITS_DOING: Final = frozenset({"seal", "commitment", "signature"})


def told(said: Mapping[int, WhyUnfit], rules: Rules) -> str:
    """What each keyholder says of a client, by place: what several say is said once."""
    of = {why: [one for one, its in said.items() if its == why] for why in said.values()}
    return "; ".join(f"{_IN_WORDS[why]}, says {rules.named(places)}" for why, places in of.items())


def is_its_doing(said: Mapping[int, WhyUnfit], rules: Rules) -> bool:
    """Whether one that tells the truth is among those who say that it sealed or signed nonsense."""
    return sum(why in _ITS_DOING for why in said.values()) > rules.tolerated

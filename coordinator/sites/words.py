"""A site's answer where the centre's are masked: the sum of the words that its devices would mask.

    change of each device ──values.to_words, by the centre's masking──▶ + ──▶ words, for one mask

Words are whole numbers, whatever they are masked with. So what keyholders open of two levels is, to
the last bit, what they would of one, with each device a client of the centre's: also where values
are rounded at random, as the chance of that is each device's own.

Where a site's own answers are masked, by the same numbers, that sum is what its keyholders open.
"""

import numpy as np
from msgspec import structs

from coordinator.sites.above import AsMasked, Words
from fedmqtt import codec_chance
from fedmqtt.masking import values
from fedmqtt.masking.values import MeanChange
from fedmqtt.messages import Masking, Measures
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array


class WordSum:
    """Of one round, in the memory of one answer."""

    def __init__(self, how: AsMasked, size: int) -> None:
        """`size`: of the change."""
        body = values.body_size(how.masking, size)
        self._how = how
        self._words = np.zeros(body + values.tail_size(how.masking, body), np.uint32)

    def add(self, client: ClientId, change: Array, samples: int, measures: Measures | None) -> None:
        """A device's change, float32, shape (size,), and what it measured, if it did."""
        how = self._how
        # A device's own chance, of the centre's round: the site's may have another number. (Devices
        # of one name at two sites round alike, and right on average still.)
        chances = codec_chance.of_answer(how.seed, how.round, client)
        self._words += values.to_words(how.masking, change, samples, chances, measures)

    @property
    def found(self) -> Words:
        return Words(self._how, self._words)


def of_opened(
    masking: Masking, opened: MeanChange, size: int, number: RoundId, how: AsMasked
) -> Words | None:
    """Of a round that the site's own keyholders have opened, by its `masking` and its `number`;
    None where devices made other words than the centre asks for."""
    wanted = structs.replace(how.masking, clients_max=masking.clients_max)
    if opened.words is None or _numbers(masking) != _numbers(wanted):
        return None
    is_drawn = masking.rotate or masking.share < 1
    if is_drawn and number != how.round:
        return None
    return Words(how, values.handed_up(masking, opened.words, size, opened.clients))


def are_for(words: Words, how: AsMasked) -> bool:
    """Whether they are what is asked now: a round may be offered again, by other keyholders."""
    was = words.how
    is_same = _numbers(was.masking) == _numbers(how.masking)
    return is_same and (was.seed, was.round) == (how.seed, how.round)


def _numbers(masking: Masking) -> list[object]:
    return [getattr(masking, name) for name in values.NUMBERS]

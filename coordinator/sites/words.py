"""A site's answer where the centre's are masked: the sum of the words that its devices would mask.

    change of each device ──values.to_words, by the centre's masking──▶ + ──▶ words, for one mask

Words are whole numbers, whatever they are masked with. So what keyholders open of two levels is, to
the last bit, what they would of one, with each device a client of the centre's: also where values
are rounded at random, as the chance of that is each device's own.

Where a site's own answers are masked, its keyholders open that sum: see `of_opened`.
"""

import numpy as np

from coordinator.sites.above import AsMasked, Words
from fedmqtt import codec_chance
from fedmqtt.masking import values
from fedmqtt.messages import Measures
from fedmqtt.topics import ClientId
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
        # A device's own chance, of the centre's round: the site's may have another number.
        chances = codec_chance.of_answer(how.seed, how.round, client)
        self._words += values.to_words(how.masking, change, samples, chances, measures)

    @property
    def found(self) -> Words:
        return Words(self._how, self._words)


def are_for(words: Words, how: AsMasked) -> bool:
    """Whether they are what is asked now: a round may be offered again, by other keyholders."""
    return _said(words.how) == _said(how)


def _said(how: AsMasked) -> tuple[object, ...]:
    numbers = (getattr(how.masking, name) for name in values.NUMBERS)
    return (how.seed, how.round, *numbers)

"""What a site's own coordinator is told by its upper half, and tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmqtt.fixed_point import Total
from fedmqtt.messages import Masking, Measures
from fedmqtt.status_pages import Figures
from fedmqtt.topics import Digest, RoundId
from fedmqtt.weights import Array


@dataclass(frozen=True, slots=True)
class AsMasked:
    """How the centre would have each of the site's devices mask its answer."""

    masking: Masking
    seed: int
    round: RoundId
    """Of the centre's."""


@dataclass(frozen=True, slots=True)
class Words:
    """What devices' answers add up to as they would be masked: see `words.py`."""

    how: AsMasked
    numbers: NDArray[np.uint32]
    """Body and tail of `fedmqtt.masking.values`, modulo 2^32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameTo:
    """What a round at a site came to."""

    round: RoundId
    base: Digest
    """Of the model that it started from."""
    made_model: bool
    reason: str
    """Why it closed; where no model was made, why not."""
    clients: int
    """Whose changes are in it."""
    samples: int
    """Of theirs; one each, where answers are masked."""
    exact: tuple[Total, int] | None
    """The sum of their changes, in units of 2^-bits, and its weight: where it can be read."""
    words: Words | None = None
    """The sum of what they would mask for the centre: where that asks for it."""
    before: Array
    after: Array
    """What is shared of the model: it began with, it made. Shape (size,)."""
    train_metrics: Mapping[str, float]
    figures: Figures | None
    """Of the model that it started from."""


class Above(Protocol):
    def bits(self) -> int | None:
        """Of fraction, in the exact sum of a round that opens now; None: as the limits leave room
        for."""

    def as_masked(self) -> AsMasked | None:
        """How devices' changes are added up, in a round that opens now, for an answer that is
        masked; None: they are not."""

    def comes_to(self, what: CameTo) -> None:
        """Keep it where a crash does not lose it: nothing says yet that the round is over. It may
        be told again after a crash. Raises OSError."""

    def closed(self, number: RoundId) -> None:
        """What this round came to is in the ledger, and another may be led."""

    def stands_for(self, devices: int) -> None:
        """So many are there and would train."""


def measures(figures: Figures | None) -> Measures | None:
    """Of all devices together, as one client's."""
    if figures is None or not figures.samples:
        return None
    return Measures(
        sample_count=figures.samples, metrics=figures.metrics, confusion=figures.confusion
    )

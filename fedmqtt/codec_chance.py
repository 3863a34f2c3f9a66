"""The chance that codecs need: named streams of random bits, the same on every machine.

Both sides make the same streams from what an offer and a client's name tell, so nothing of them is
sent. `shared` is the same for all clients of a round; `own` is each client's, so that the errors of
many clients are independent and average out.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array


@dataclass(frozen=True, slots=True)
class Chance:
    """Streams of their own for each purpose."""

    name: str

    def words(self, purpose: str, count: int) -> NDArray[np.uint64]:
        """`count` numbers of 64 random bits, little-endian."""
        seed = hashlib.sha256(f"{self.name}/{purpose}".encode()).digest()
        # The raw bits of a numpy bit generator are the same in every release and on every machine;
        # what numpy makes of them, such as normal numbers, need not be.
        bits = np.random.PCG64(int.from_bytes(seed)).random_raw(count)
        return bits.astype("<u8", copy=False)

    def uniform(self, purpose: str, count: int) -> Array:
        """`count` multiples of 2^-24 in [0, 1), float32: exact, as many as fit its precision."""
        halves = self.words(purpose, (count + 1) // 2).view("<u4")[:count]
        return (halves >> 8).astype(np.float32) * np.float32(2.0**-24)


@dataclass(frozen=True, slots=True)
class Chances:
    """Of one client's answer to one round, or of one delta of the model."""

    own: Chance
    shared: Chance


def of_delta(base: str, number: int) -> Chances:
    """Of what makes the model with this number of the one with the digest `base`."""
    return Chances(
        own=Chance(f"codec/delta/own/{base}/{number}"),
        shared=Chance(f"codec/delta/shared/{base}/{number}"),
    )


def of_answer(seed: int, round_id: RoundId, client: ClientId) -> Chances:
    """`seed`: the offer's."""
    return Chances(
        own=Chance(f"codec/own/{seed}/{round_id}/{client}"),
        shared=Chance(f"codec/shared/{seed}/{round_id}"),
    )

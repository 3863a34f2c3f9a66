"""The noise under a seed: the same for all keyholders that hold it, and unknown to everybody else.

    seeds number s of all clients on a list ──key──▶ ChaCha20 ──▶ discrete Gaussian N_s
    a keyholder's sum of masks:  PRG(seed of ann) + PRG(seed of bob) + ... - N_s
    what is opened:              sum of q + N_0 + ... + N_(S-1)

Whoever lacks the seed number s of one honest client cannot tell its key, and so N_s, from chance.
All who have it make the same noise: their sums are still compared, a keyholder that is killed sends
the same again, and nobody can average noise away. Another list, of one client less, has another key
in its context and in its seeds, so that no two sums differ by what their answers differ in alone.

All words get noise, those behind the values as well: where those begin is said by the coordinator
alone. (Noise of each keyholder's own would make their sums differ, and several copies of one sum,
averaged, would have less of it.)
"""

from collections.abc import Iterable

import numpy as np

from fedmqtt import noise_promise
from fedmqtt.masking.masks import stream
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Masking
from fedmqtt.privacy import chance, noise
from fedmqtt.privacy.chance import Bits
from fedmqtt.privacy.noise import Whole
from fedmqtt.topics import RoundId, RunId

_WHAT = b"fedmqtt 1 noise under a seed"
_CHUNK = 1 << 15
"""Numbers that are drawn at a time: from as many on, none is drawn in vain."""


def key(
    keys: Iterable[bytes],
    federation: str,
    run: RunId,
    round_id: RoundId,
    list_digest: bytes,
    number: int,
) -> bytes:
    """Of the noise under the seed of this number. `keys`: of the masks under it, those of
    all clients on the list, in its order."""
    context = (
        _WHAT,
        federation.encode(),
        run.encode(),
        round_id.to_bytes(8),
        list_digest,
        number.to_bytes(4),
    )
    return chance.keyed(b"".join(keys), *context)(chance.KEY_BYTES)


def subtract(words: Words, masking: Masking, key_: bytes) -> None:
    """Take the noise of this key from a sum of masks, modulo 2^32, in place; shape (n,)."""
    deviation, bits = noise_promise.deviation(masking), stream(key_)
    for start in range(0, words.size, _CHUNK):
        chunk = words[start : start + _CHUNK]
        chunk -= _drawn(deviation, chunk.size, bits).astype(np.uint32)


def of_key(masking: Masking, key_: bytes, count: int) -> Whole:
    """The same as whole numbers, shape (count,)."""
    deviation, bits = noise_promise.deviation(masking), stream(key_)
    sizes = [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]
    drawn = [_drawn(deviation, size, bits) for size in sizes]
    return np.concatenate(drawn) if drawn else np.empty(0, np.int64)


def _drawn(deviation: int, count: int, bits: Bits) -> Whole:
    return noise.discrete_gaussian(deviation, count, bits)

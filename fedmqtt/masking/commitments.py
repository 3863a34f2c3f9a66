"""What a seed is made into: the key of its mask, and a commitment by which it is known again.

    SHA-512(context, number, seed)        first half: key of the mask       masks.py
                                          second half: commitment, public

Each seed goes to several keyholders, so that what they say of it can be compared. A client that
sealed them different ones would have an honest keyholder pass for one that lies. So its answer has
a commitment for each seed that several of the offer's keyholders hold, signed with all else, and
who opens a seal looks whether it fits: if not, that is the client's fault, and told before any sum
is. A seed that one alone holds has none, as nobody is held against that one.

*Hiding.* A seed is drawn at random, for one answer, and its context is in the hash: who has the
commitment has to try 2^128 seeds, for this one alone. To open its seal, by X25519, is as much work.

*Binding.* A client chooses both seeds itself, so what counts are collisions: of 32 bytes that is
work of 2^128. Of 16 bytes it would be 2^64, which hired machines can do.
"""

import hashlib

from fedmqtt.masking import seeds
from fedmqtt.masking.masks import KEY_BYTES
from fedmqtt.masking.sealing import fields
from fedmqtt.messages import COMMITMENT_BYTES, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

SEED_BYTES = 16

_WHAT = b"fedmqtt 1 committed seed"


class NotCommitted(ValueError):
    """What of a client's seeds is not what it committed to; a sentence without its subject."""


def context(
    federation: str,
    run: RunId,
    round_id: RoundId,
    client: ClientId,
    base: Digest,
    exchange: bytes,
) -> bytes:
    """What seeds are for; `exchange`: the client's public key, by which they are sealed."""
    return fields(
        _WHAT,
        federation.encode(),
        run.encode(),
        round_id.to_bytes(8),
        client.encode(),
        base.encode(),
        exchange,
    )


def expand(context: bytes, number: int, seed: bytes) -> tuple[bytes, bytes]:
    """Key of the mask, and commitment, of the seed of this number."""
    digest = hashlib.sha512(fields(context, number.to_bytes(4), seed)).digest()
    return digest[:KEY_BYTES], digest[KEY_BYTES:]


def numbers(masking: Masking) -> tuple[int, ...]:
    """Of the seeds that are committed to, in the order of their commitments."""
    there = [keyholder.place for keyholder in masking.keyholders]
    return seeds.shared(masking.places, masking.tolerated, there)


def fault(masking: Masking, commitments: bytes) -> str:
    """What is wrong with how long they are, without their sender; empty where nothing is."""
    wanted = COMMITMENT_BYTES * len(numbers(masking))
    if len(commitments) == wanted:
        return ""
    return f"commits to its seeds in {len(commitments)} bytes, not {wanted}"


def keys(
    masking: Masking, place: int, context: bytes, share: bytes, commitments: bytes
) -> tuple[bytes, ...]:
    """Of the masks under the seeds of this place, which are `share`, in the order of their numbers.

    Raises NotCommitted.
    """
    if wrong := fault(masking, commitments):
        raise NotCommitted(wrong)
    found = []
    held = seeds.held_by(masking.places, masking.tolerated)[place]
    committed = dict(zip(numbers(masking), cut(commitments, COMMITMENT_BYTES), strict=True))
    for number, seed in zip(held, cut(share, SEED_BYTES), strict=True):
        key, commitment = expand(context, number, seed)
        if committed.get(number, commitment) != commitment:
            raise NotCommitted(f"sealed another seed {number} than it committed to")
        found.append(key)
    return tuple(found)


def cut(joined: bytes, each: int) -> list[bytes]:
    return [joined[at : at + each] for at in range(0, len(joined), each)]

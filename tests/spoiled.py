"""Masked answers that are well signed, and whose seals some keyholders cannot open, or open to
other seeds than the rest: nobody but they can tell."""

import hashlib
import secrets
from collections.abc import Collection

from msgspec import structs

from fedmqtt.masking import attested, commitments, sealing, seeds
from fedmqtt.masking.commitments import SEED_BYTES
from fedmqtt.masking.sealing import Exchange
from fedmqtt.messages import Masked, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

What = tuple[str, ClientId, RunId, RoundId, Digest]
"""Federation, client, run, round and base."""


def spoiled(
    masked: Masked,
    payload: bytes,
    masking: Masking,
    what: What,
    signing_key: str,
    keyholders: Collection[str],
) -> Masked:
    """The same, with nonsense in the place of what it seals to these, and signed as it is."""
    sealed = tuple(
        bytes(len(seal)) if keyholder.name in keyholders else seal
        for keyholder, seal in zip(masking.keyholders, masked.sealed, strict=True)
    )
    return signed(structs.replace(masked, sealed=sealed), payload, masking, what, signing_key)


def divided(
    masked: Masked,
    payload: bytes,
    masking: Masking,
    what: What,
    signing_key: str,
    wrong: Collection[tuple[str, int]],
) -> Masked:
    """With seals that open, of fresh seeds that are committed to; but these keyholders are given
    others under these numbers."""
    federation, client, run, round_id, base = what
    exchange = Exchange.new()
    drawn, others = (
        [
            secrets.token_bytes(SEED_BYTES)
            for _ in range(seeds.count(masking.places, masking.tolerated))
        ]
        for _ in range(2)
    )
    held = seeds.held_by(masking.places, masking.tolerated)
    sealed = tuple(
        exchange.seal(
            one.key.public,
            sealing.context(federation, run, round_id, client, base, one.name, one.key.number),
            b"".join(
                (others if (one.name, number) in wrong else drawn)[number]
                for number in held[one.place]
            ),
        )
        for one in masking.keyholders
    )
    told = commitments.context(federation, run, round_id, client, base, exchange.public)
    committed = b"".join(
        commitments.expand(told, number, drawn[number])[1]
        for number in commitments.numbers(masking)
    )
    made = structs.replace(masked, exchange=exchange.public, sealed=sealed, commitments=committed)
    return signed(made, payload, masking, what, signing_key)


def signed(
    masked: Masked, payload: bytes, masking: Masking, what: What, signing_key: str
) -> Masked:
    """By its client, as it is."""
    said = attested.said(
        *what,
        attested.masking_digest(masking),
        masked.exchange,
        masked.sealed,
        masked.commitments,
        hashlib.sha256(payload).digest(),
    )
    return structs.replace(masked, signature=attested.sign(signing_key, said))

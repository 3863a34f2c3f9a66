"""What a client does to its answer before it leaves: masks it, seals and commits to the seeds,
signs all of it."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Self

from fedmqtt import committee_promise, masks_promise
from fedmqtt.masking import attested, commitments, committee, packing, seeds
from fedmqtt.masking.commitments import SEED_BYTES
from fedmqtt.masking.masks import add_masks
from fedmqtt.masking.packing import Words
from fedmqtt.masking.sealing import Exchange, context
from fedmqtt.messages import Masked, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId


class BadMasking(ValueError):
    """Seeds would reach fewer, or others, than the offer says; a sentence."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Of one answer, and of no other. Nothing keeps them: whoever lacks one of the seeds cannot
    take the mask off, this client included."""

    exchange: Exchange
    seeds: tuple[bytes, ...]
    """By their numbers."""

    @classmethod
    def fresh(cls, masking: Masking) -> Self:
        count = seeds.count(masking.places, masking.tolerated)
        return cls(Exchange.new(), tuple(secrets.token_bytes(SEED_BYTES) for _ in range(count)))

    def __repr__(self) -> str:
        return "<an answer's secrets>"


def mask(
    masking: Masking,
    federation: str,
    client: ClientId,
    run: RunId,
    round_id: RoundId,
    base: Digest,
    words: Words,
    body: int,
    signing_key: str,
    given: Secrets | None = None,
) -> tuple[Masked, bytes]:
    """The masked payload, and what goes with it. `words` are those of `values.to_words`, the
    first `body` of them modulo 2^bits, and may be masked in place; `signing_key`: as in the
    device's credentials, by which its message is to be signed as well; `given`: for test vectors
    alone, which are the same each time.

    Raises BadMasking, sealing.NotSealed, signing.BadKey.
    """
    if wrong := masks_promise.fault(masking):
        raise BadMasking(wrong)
    own = given or Secrets.fresh(masking)
    exchange, drawn = own.exchange, own.seeds
    told = (federation, run, round_id, client, base)
    what_for = commitments.context(*told, exchange.public)
    expanded = [commitments.expand(what_for, number, seed) for number, seed in enumerate(drawn)]
    keys = [key for key, _ in expanded]
    if committee_promise.is_by_committee(masking):
        payload = committee.hide(masking, federation, words, body, keys)
    else:
        add_masks(words, [(key, 1) for key in keys])
        payload = packing.to_payload(words, body, masking.bits)
    held = seeds.held_by(masking.places, masking.tolerated)
    sealed = tuple(
        exchange.seal(
            keyholder.key.public,
            context(*told, keyholder.name, keyholder.key.number),
            b"".join(drawn[number] for number in held[keyholder.place]),
        )
        for keyholder in masking.keyholders
    )
    committed = b"".join(expanded[number][1] for number in commitments.numbers(masking))
    digest = attested.said(
        federation,
        client,
        run,
        round_id,
        base,
        attested.masking_digest(masking),
        exchange.public,
        sealed,
        committed,
        hashlib.sha256(payload).digest(),
    )
    masked = Masked(
        exchange=exchange.public,
        sealed=sealed,
        signature=attested.sign(signing_key, digest),
        commitments=committed,
    )
    return masked, payload

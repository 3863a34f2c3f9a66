"""Clients and keyholders of one round, with keys that are nobody's."""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.masking.masked_sum import MaskedSum
from fedmqtt import codec_chance, committee_promise, envelope, signing
from fedmqtt.codec_chance import Chances
from fedmqtt.envelope import Author
from fedmqtt.masking import (
    attested,
    client,
    commitments,
    masks,
    packing,
    sealing,
    seeds,
    values,
)
from fedmqtt.masking.committee import KeySum
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Entry, Keyholder, Masking, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array

FEDERATION, RUN, ROUND, BASE = "ward-7", RunId("r1"), RoundId(7), Digest("ab" * 32)
KEY_NUMBER = 5
CLIENTS = tuple(ClientId(f"c{number}") for number in range(8))


@functools.cache
def federation_key() -> str:
    return signing.new_key()


@functools.cache
def credentials(name: str) -> tuple[str, str]:
    """A device's signing key and ticket."""
    key = signing.new_key()
    public = signing.public_key(key)
    return key, signing.ticket(federation_key(), FEDERATION, name, public)


def author(name: str) -> Author:
    """As the envelopes of this device tell it."""
    key, ticket = credentials(name)
    public = signing.as_bytes(signing.public_key(key))
    return Author(public, signing.as_bytes(ticket, envelope.TICKET_BYTES))


@functools.cache
def round_key(place: int) -> tuple[bytes, bytes]:
    """Private and public."""
    return sealing.new_round_key()


def keyholder(place: int) -> Keyholder:
    # Who signed a round key is looked at by who takes an offer, and not here.
    return Keyholder(
        ClientId(f"kh-{place}"), place, RoundKey(KEY_NUMBER, round_key(place)[1], bytes(64))
    )


def masking(places: int = 3, tolerated: int = 1, **changes: Any) -> Masking:
    plain: dict[str, Any] = {
        "mode": "keyholders" if places > 1 else "trusted",
        "keyholders": tuple(keyholder(place) for place in range(places)),
        "places": places,
        "tolerated": tolerated,
        "floor": 2,
        "bits": 24,
        "value_bits": 16,
        "change_max": 1.0,
    }
    return Masking(**plain | changes)


def chances(name: ClientId) -> Chances:
    return codec_chance.of_answer(11, ROUND, name)


@dataclass(frozen=True)
class Answer:
    """One client's, and what is in it."""

    entry: Entry
    payload: bytes
    words: Words
    """Body and tail before they were masked."""


def answer(how: Masking, name: ClientId, change: Array, samples: int = 1, times: int = 1) -> Answer:
    words = values.to_words(how, change, samples, chances(name))
    masked, payload = client.mask(
        how,
        FEDERATION,
        name,
        RUN,
        ROUND,
        BASE,
        words.copy(),
        values.body_size(how, change.size),
        credentials(name)[0],
    )
    digest = hashlib.sha256(payload).digest()
    return Answer(Entry(name, times, digest, masked, *author(name)), payload, words)


def check(how: Masking, entry: Entry) -> None:
    attested.check(
        FEDERATION,
        signing.public_key(federation_key()),
        RUN,
        ROUND,
        BASE,
        attested.masking_digest(how),
        entry,
    )


def context_of(client_: ClientId, place: int, round_id: RoundId = ROUND) -> bytes:
    """What is sealed to the keyholder at this place."""
    return sealing.context(
        FEDERATION, RUN, round_id, client_, BASE, ClientId(f"kh-{place}"), KEY_NUMBER
    )


def keys_of(how: Masking, place: int, entry: Entry) -> dict[int, bytes]:
    """Of the masks that the keyholder at this place opens, by number."""
    at = [one.place for one in how.keyholders].index(place)
    context = context_of(entry.client, place)
    private, _ = round_key(place)
    plain = sealing.open_sealed(private, entry.masked.exchange, context, entry.masked.sealed[at])
    held = seeds.held_by(how.places, how.tolerated)[place]
    what = commitments.context(FEDERATION, RUN, ROUND, entry.client, BASE, entry.masked.exchange)
    found = commitments.keys(how, place, what, plain, entry.masked.commitments)
    return dict(zip(held, found, strict=True))


def mask_sums(
    how: Masking, size: int, assigned: Mapping[int, int], entries: Iterable[Entry]
) -> list[Words]:
    """What keyholders answer: of each seed the sum of its masks, as it crosses the broker."""
    body, tail, bits = opened_shape(how, size)
    sums = {seed: np.zeros(body + tail, np.uint32) for seed in assigned}
    for entry in entries:
        check(how, entry)
        for seed, place in assigned.items():
            masks.add_mask(sums[seed], keys_of(how, place, entry)[seed], entry.times)
    told = b"".join(packing.to_payload(words, body, bits) for words in sums.values())
    return packing.from_payloads(told, len(sums), body, tail, bits)


def opened_shape(how: Masking, size: int) -> tuple[int, int, int]:
    """What keyholders add up masks of: packed words, whole ones, and the bits of a packed one."""
    body = values.body_size(how, size)
    return committee_promise.opened(how, body, values.tail_size(how, body))


def no_sum(how: Masking, size: int) -> MaskedSum | KeySum:
    """A coordinator's, of no answers yet."""
    body = values.body_size(how, size)
    tail = values.tail_size(how, body)
    if how.mode == "committee":
        return KeySum(how, FEDERATION, body, tail)
    return MaskedSum(body, tail, how.bits)


def opened(how: Masking, size: int, there: Sequence[int], answers: Sequence[Answer]) -> Words:
    """The sum of these answers, opened by the keyholders that are there."""
    total = no_sum(how, size)
    for one in answers:
        total.add(one.payload, one.entry.times)
    assigned = seeds.assign(how.places, how.tolerated, there)
    assert assigned is not None
    return total.open(mask_sums(how, size, assigned, (one.entry for one in answers)))

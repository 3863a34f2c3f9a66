"""Writes docs/vectors/masks.json: what a client makes of its change in a masked round, step by step
and to the byte: `python -m tests.protocol_reference`.

Keys, seeds and numbers are made up, and the same each time.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from coordinator.masking.masked_sum import MaskedSum
from fedmqtt import codec_chance, offered_work, signing, weights
from fedmqtt.masking import attested, client, commitments, masks, sealing, seeds, values
from fedmqtt.masking.client import Secrets
from fedmqtt.masking.packing import Words
from fedmqtt.masking.sealing import Exchange
from fedmqtt.messages import (
    Keyholder,
    Masked,
    Masking,
    Measures,
    ModelRef,
    Offer,
    Training,
    Update,
    encode,
)
from fedmqtt.topics import ClientId, RoundId, RunId
from fedmqtt.weights import Array
from tests.fedmqtt.test_weights import NET, NET_LAYOUT

FEDERATION, RUN, ROUND = "demo", RunId("r1"), RoundId(1)
CLIENTS = ANN, BOB = ClientId("ann"), ClientId("bob")
FILE = weights.write(NET_LAYOUT, NET_LAYOUT.flatten(NET))
BASE = weights.digest(FILE)
SAMPLES = {ANN: 120, BOB: 30}
_HOLDERS = tuple(ClientId(name) for name in ("kh-a", "kh-b", "kh-c"))
_KEY_NUMBER = 7
_SEED = 7
_STREAM_WORDS = 20
"""Of each mask: more than a block of ChaCha20 has."""

_CHANGES = {
    ANN: (0.5, -0.25, 0.0, 1.0, -1.0, 0.125, 0.3, -0.7, 2.5),
    BOB: (-0.5, 0.75, 0.0625, 0.1, 0.2, -0.3, 0.9, 0.0, -0.01),
}
"""One number is above `change_max`."""


def masks_file() -> dict[str, Any]:
    return {
        "federation": FEDERATION,
        "run": RUN,
        "round": ROUND,
        "base": BASE,
        "keyholders": [_keyholder_told(name) for name in _HOLDERS],
        "rounds": {mode: _round(_offer(masking(mode))) for mode in ("keyholders", "trusted")},
        "masks": [_mask(bytes([n]) * masks.KEY_BYTES) for n in (0, 1)],
        "words": [_words(*case) for case in _WORDS],
    }


def own_key(who: str) -> str:
    """By which this device or keyholder signs."""
    return base64.b64encode(hashlib.sha256(f"signing key of {who}".encode()).digest()).decode()


def round_private(name: str) -> bytes:
    return hashlib.sha256(f"round key of {name}".encode()).digest()


def secrets_of(name: ClientId, masking: Masking) -> Secrets:
    exchange = Exchange(hashlib.sha256(f"exchange of {name}".encode()).digest())
    drawn = (
        hashlib.sha256(f"seed {number} of {name}".encode()).digest()[: commitments.SEED_BYTES]
        for number in range(seeds.count(masking.places, masking.tolerated))
    )
    return Secrets(exchange, tuple(drawn))


def masking(mode: str, **changes: Any) -> Masking:
    names = _HOLDERS if mode == "keyholders" else _HOLDERS[:1]
    plain: dict[str, Any] = {
        "mode": mode,
        "keyholders": tuple(_keyholder(name, place) for place, name in enumerate(names)),
        "places": len(names),
        "tolerated": len(names) - 2 if mode == "keyholders" else 0,
        "floor": 2,
        "bits": 24,
        "value_bits": 20,
        "weight_max": 255,
        "samples_max": 1000,
        "change_max": 1.0,
    }
    return Masking(**plain | changes)


def change_of(name: ClientId) -> Array:
    return np.array(_CHANGES[name], np.float32)


def _keyholder(name: ClientId, place: int) -> Keyholder:
    public = Exchange(round_private(name)).public
    return Keyholder(
        name, place, signing.round_key(own_key(name), FEDERATION, name, _KEY_NUMBER, public)
    )


def _offer(how: Masking) -> Offer:
    offer = Offer(
        run=RUN,
        round=ROUND,
        task="digits",
        model=ModelRef(
            digest=BASE,
            size_bytes=len(FILE),
            chunk_bytes=131_072,
            fingerprint=NET_LAYOUT.fingerprint,
        ),
        model_file=FILE,
        train=CLIENTS,
        evaluate=(),
        closes_in_s=60.0,
        training=Training(learning_rate=1e-5),
        codec="full",
        lanes=4,
        seed=_SEED,
        masking=how,
    )
    return offered_work.stamped(offer)


def _keyholder_told(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "public_key": signing.public_key(own_key(name)),
        "round_key_private_hex": round_private(name).hex(),
    }


def _round(offer: Offer) -> dict[str, Any]:
    assert offer.masking is not None
    how = offer.masking
    size = NET_LAYOUT.size
    body = values.body_size(how, size)
    told = [_answer(offer, how, name) for name in CLIENTS]
    total = MaskedSum(body, values.tail_size(how, body), how.bits)
    plain: Words = np.add(*(_body_and_tail(how, name) for name in CLIENTS))
    for one in told:
        total.add(bytes.fromhex(one["payload_hex"]))
    opened = total.open(
        _mask_of([_mask_key(how, name, number) for name in CLIENTS], plain.size)
        for number in range(seeds.count(how.places, how.tolerated))
    )
    lowest = np.uint32((1 << how.bits) - 1)
    assert np.array_equal(opened[:body] & lowest, plain[:body] & lowest)
    assert np.array_equal(opened[body:], plain[body:])
    shared = codec_chance.of_answer(_SEED, ROUND, ANN).shared
    mean = values.from_sum(how, opened, size, len(CLIENTS), shared)
    return {
        "offer_hex": encode(offer).hex(),
        "work_hex": how.work.hex(),
        "masking_hex": attested.plain(how).hex(),
        "masking_sha256": attested.masking_digest(how).hex(),
        "seeds_of_places": [list(held) for held in seeds.held_by(how.places, how.tolerated)],
        "answers": told,
        "sum": {"weight": mean.weight, "clipped": mean.clipped, "mean": mean.change.tolist()},
    }


def _mask_key(how: Masking, name: ClientId, number: int) -> bytes:
    """Of the mask under this seed of this client."""
    own = secrets_of(name, how)
    what = commitments.context(FEDERATION, RUN, ROUND, name, BASE, own.exchange.public)
    return commitments.expand(what, number, own.seeds[number])[0]


def _body_and_tail(how: Masking, name: ClientId) -> Words:
    chances = codec_chance.of_answer(_SEED, ROUND, name)
    return values.to_words(how, change_of(name), SAMPLES[name], chances)


def _mask_of(keys: Sequence[bytes], size: int) -> Words:
    found = np.zeros(size, np.uint32)
    masks.add_masks(found, [(key, 1) for key in keys])
    return found


def _answer(offer: Offer, how: Masking, name: ClientId) -> dict[str, Any]:
    own = secrets_of(name, how)
    words = _body_and_tail(how, name)
    told = (FEDERATION, RUN, ROUND, name, BASE)
    body = values.body_size(how, NET_LAYOUT.size)
    masked, payload = client.mask(
        how, FEDERATION, name, RUN, ROUND, BASE, words.copy(), body, own_key(name), own
    )
    keys = [_mask_key(how, name, number) for number in range(len(own.seeds))]
    what = commitments.context(*told, own.exchange.public)
    return {
        "client": name,
        "signing_key": own_key(name),
        "public_key": signing.public_key(own_key(name)),
        "change": change_of(name).tolist(),
        "sample_count": SAMPLES[name],
        "words": words.tolist(),
        "exchange_private_hex": hashlib.sha256(f"exchange of {name}".encode()).hexdigest(),
        "exchange_public_hex": own.exchange.public.hex(),
        "seed_context_hex": what.hex(),
        "seeds": [
            {
                "seed_hex": seed.hex(),
                "mask_key_hex": key.hex(),
                "commitment_hex": commitments.expand(what, number, seed)[1].hex(),
            }
            for number, (seed, key) in enumerate(zip(own.seeds, keys, strict=True))
        ],
        "masked_words": (words + _mask_of(keys, words.size)).tolist(),
        "payload_hex": payload.hex(),
        "seals": [
            {
                "keyholder": one.name,
                "context_hex": sealing.context(*told, one.name, one.key.number).hex(),
                "sealed_hex": sealed.hex(),
            }
            for one, sealed in zip(how.keyholders, masked.sealed, strict=True)
        ],
        "said_sha256": _said(how, name, masked, payload).hex(),
        "signature_hex": masked.signature.hex(),
        "update_hex": encode(_update(offer, masked, payload)).hex(),
    }


def _said(how: Masking, name: ClientId, masked: Masked, payload: bytes) -> bytes:
    return attested.said(
        FEDERATION,
        name,
        RUN,
        ROUND,
        BASE,
        attested.masking_digest(how),
        masked.exchange,
        masked.sealed,
        masked.commitments,
        hashlib.sha256(payload).digest(),
    )


def _update(offer: Offer, masked: Masked, payload: bytes) -> Update:
    return Update(
        run=RUN,
        round=ROUND,
        base=BASE,
        fingerprint=offer.model.fingerprint,
        sample_count=1,
        codec=offer.codec,
        masked=masked,
        payload=memoryview(payload),
    )


def _mask(key: bytes) -> dict[str, Any]:
    return {"key_hex": key.hex(), "words": _mask_of([key], _STREAM_WORDS).tolist()}


_MEASURED = Measures(sample_count=3, metrics={"loss": -0.5}, confusion=((1, 0), (1, 1)))
_MANY = Measures(sample_count=70_000, metrics={"loss": 1e9}, confusion=((60_000, 1), (9_999, 0)))
_WORDS: tuple[tuple[str, dict[str, Any], Measures | None], ...] = (
    ("weighed, and clipped", {}, None),
    ("all alike", {"weight_max": 1, "samples_max": 1}, None),
    ("a norm that is bounded", {"norm_max": 0.5}, None),
    ("measured", {"metrics": ("loss", "mae"), "classes": 2}, _MEASURED),
    ("measured on more than count", {"metrics": ("loss",), "classes": 2}, _MANY),
    ("not measured", {"metrics": ("loss",), "classes": 2}, None),
    ("ranges, and how large values are", {"ranges": (0.75,), "block_norms": 1}, None),
    ("an answer may be of several devices", {"clients_max": 50, "block_norms": 1}, None),
    ("a share", {"share": 0.5}, None),
    ("rotated", {"rotate": True, "change_max": 4.0}, None),
    (
        "under noise",
        {
            **{"weight_max": 1, "samples_max": 1, "norm_max": 0.5},
            **{"noise": 2.0, "norm_steps": 262_143, "indicator": 9.0},
        },
        None,
    ),
)
"""What it shows, how it is masked other than in the round above, and what was measured. Values have
more than 8 bits in each, so that none is rounded by chance."""


def _words(what: str, changes: dict[str, Any], measures: Measures | None) -> dict[str, Any]:
    how = masking("trusted", **changes)
    # Of halves and quarters, so that a rotation comes out exact.
    change = np.array([0.5, -0.25, 0.0, 1.0, -1.0, 0.125, 2.0, -0.75, 2.5], np.float32)
    chances = codec_chance.of_answer(_SEED, ROUND, ANN)
    words = values.to_words(how, change, SAMPLES[ANN], chances, measures)
    body = values.body_size(how, change.size)
    shown = msgspec.to_builtins(how)
    del shown["keyholders"]
    return {
        "what": what,
        "masking": shown,
        "seed": _SEED,
        "change": change.tolist(),
        "sample_count": SAMPLES[ANN],
        "measures": msgspec.to_builtins(measures),
        "body": words[:body].tolist(),
        "tail": words[body:].tolist(),
    }

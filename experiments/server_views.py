"""What the coordinator, or who reads at the broker, has of clients' changes: through the same code
that clients and coordinators run."""

import hashlib
import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coordinator.masking.masked_sum import MaskedSum
from experiments.gradient_inversion import Seen
from fedmqtt import codec_chain, codec_chance, signing
from fedmqtt.codec_chance import Chances
from fedmqtt.masking import client, packing, sealing, values
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Keyholder, Masking, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

_FEDERATION, _RUN, _ROUND = "shown", RunId("r1"), RoundId(1)
_BASE = Digest(hashlib.sha256(b"model").hexdigest())
_CLIENT = ClientId("ann")
_KEYHOLDERS = ("kh-a", "kh-b", "kh-c")
_TERMS_MAX = 1024


def plain(change: Tensor) -> Seen:
    """One update in full precision, which is float32 on the wire."""
    return Seen(change.float().double())


def coded(change: Tensor, codec: str, seed: int) -> Seen:
    """One update by a codec, as `fedmqtt codecs` lists them."""
    chain = codec_chain.read(codec)
    chances = _chances(seed, 0)
    data = chain.encode(change.float().numpy(), chances)
    sent = chain.unpack(data, change.numel(), chances)
    places = None if sent.places is None else torch.from_numpy(sent.places.copy())
    return Seen(torch.from_numpy(sent.values.astype(np.float64)), places)


def masked(change: Tensor, norm_max: float, seed: int) -> Seen:
    """One update as it crosses the broker, under three masks."""
    how = _masking(norm_max)
    words = values.to_words(how, change.float().numpy(), 1, _chances(seed, 0))
    payload = wire_bytes(how, words)
    body = packing.from_payload(payload, change.numel(), values.COUNTS, how.bits)[: -values.COUNTS]
    return Seen(torch.from_numpy(values.centred(body, how.bits) * _step(how)))


def opened_sum(changes: Tensor, norm_max: float, sigma: float, seed: int) -> Seen:
    """The sum of clipped updates once it was opened, and what noise the sum was given: a normal one
    of deviation sigma * norm_max on each number. changes: (clients, numbers), not yet clipped."""
    how = _masking(norm_max)
    terms, size = changes.shape
    total = MaskedSum(size, values.COUNTS, how.bits)
    for number, change in enumerate(changes.float().numpy()):
        words = values.to_words(how, change, 1, _chances(seed, number))
        total.add(packing.to_payload(words, size, how.bits))
    # Masks that are added and taken away leave what was there: tests/fedmqtt/masking/test_sum.py.
    shared = _chances(seed, 0).shared
    mean = values.from_sum(how, total.open(()), size, terms, shared).change
    chance = np.random.default_rng([seed, terms])
    noise: NDArray[np.float64] = chance.normal(size=size) * (sigma * norm_max)
    # Rounding to the nearest: evenly spread between two levels.
    rounding = _step(how) * math.sqrt(terms / 12)
    return Seen(
        torch.from_numpy(mean * terms + noise), deviation=math.hypot(sigma * norm_max, rounding)
    )


def wire_bytes(how: Masking, words: Words) -> bytes:
    """The payload that a client sends; the words are masked in place."""
    _, payload = client.mask(
        how,
        _FEDERATION,
        _CLIENT,
        _RUN,
        _ROUND,
        _BASE,
        words,
        words.size - values.COUNTS,
        _own_key(),
    )
    return payload


@cache
def _own_key() -> str:
    return signing.new_key()


def _step(how: Masking) -> float:
    return how.change_max / values.level_max(how.value_bits)


@cache
def _masking(norm_max: float) -> Masking:
    """Three keyholders, any two of which open a sum; 20 bits for a value."""
    publics = [sealing.new_round_key()[1] for _ in _KEYHOLDERS]
    return Masking(
        mode="keyholders",
        keyholders=tuple(
            Keyholder(ClientId(name), place, RoundKey(1, public, bytes(64)))
            for place, (name, public) in enumerate(zip(_KEYHOLDERS, publics, strict=True))
        ),
        places=len(_KEYHOLDERS),
        tolerated=1,
        floor=2,
        bits=values.bits_needed(20, _TERMS_MAX),
        value_bits=20,
        change_max=norm_max,
        norm_max=norm_max,
    )


def _chances(seed: int, number: int) -> Chances:
    return codec_chance.of_answer(seed, _ROUND, ClientId(f"c{number}"))

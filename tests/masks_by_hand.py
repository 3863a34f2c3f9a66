"""What docs/masked-answers.md says, once more: by libsodium, msgpack and Python's own numbers, and
nothing of `fedmqtt`. As a client in another language would: slowly, and from the page alone.
"""

import base64
import hashlib
import hmac
import json
import math
import struct
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import msgpack
import numpy as np
from nacl import bindings

Fields = dict[str, Any]

NOT_WORK = {
    *("kind", "wire", "epoch", "run", "round", "model", "model_file", "masking", "train"),
    *("evaluate", "sortition", "closes_in_s", "lanes", "spread_s", "late_rounds"),
}
DEFAULTS: Fields = {
    **{"method": {}, "slow_links": None, "describes": False, "asynchronous": False, "sites": None},
    "training": {
        **{"epochs": 1, "batch_size": 16, "learning_rate": 0.05},
        **{"momentum": 0.0, "weight_decay": 0.0, "proximal": 0.0},
    },
}
MASKING_DEFAULTS: Fields = {
    **{"weight_max": 1, "samples_max": 1, "norm_max": 0.0, "noise": 0.0, "norm_steps": 0},
    **{"indicator": 0.0, "share": 1.0, "rotate": False, "ranges": [], "block_norms": 0},
    **{"metrics": [], "classes": 0, "work": b"", "clients_max": 1},
}


def joined(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


# What is asked.


def work(offer: Fields) -> str:
    """The JSON whose SHA-256 it is."""
    said = {}
    for name, value in offer.items():
        if name in NOT_WORK:
            continue
        if name == "training":
            usual = DEFAULTS["training"]
            said[name] = {key: one for key, one in value.items() if one != usual[key]}
        elif value != DEFAULTS.get(name, ...):
            said[name] = value
    # Of the numbers in the vectors Python's spelling differs in this one alone.
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("1e-05", "0.00001")


# Numbers.


def whole_numbers(
    masking: Fields, change: Sequence[float], samples: int, seed: int, round_: int, measures: Any
) -> tuple[list[int], list[int]]:
    """Body and tail."""
    how = MASKING_DEFAULTS | masking
    numbers = list(change)
    shared = f"codec/shared/{seed}/{round_}"
    if how["share"] < 1:
        numbers = _drawn(numbers, how["share"], shared)
    norm = math.sqrt(sum(x * x for x in numbers))
    is_long = bool(how["norm_max"]) and norm > how["norm_max"]
    if is_long:
        by = np.float32(how["norm_max"] / norm)
        numbers = [float(np.float32(x) * by) for x in numbers]
    if how["rotate"]:
        numbers = _rotated(numbers, shared)
    top = 2 ** (how["value_bits"] - 1) - 1
    counts = 1
    if how["weight_max"] > 1:
        share = min(samples, how["samples_max"]) / how["samples_max"]
        counts = max(1, round(how["weight_max"] * share))
    blocks = -(-len(numbers) // 1024)
    ranges = how["ranges"] or [how["change_max"]]
    of_block = [ranges[i * len(ranges) // blocks] for i in range(blocks)]
    highest = top * counts / how["weight_max"]
    scaled = [
        x * (counts / (of_block[at // 1024] * (how["weight_max"] / top)))
        for at, x in enumerate(numbers)
    ]
    clipped = sum(abs(x) > highest for x in scaled)
    within = [max(-highest, min(highest, x)) for x in scaled]
    if how["noise"]:
        return _under_noise(how, within, is_long)
    tail = [counts, min(clipped, 65_536), int(is_long)]
    if how["clients_max"] > 1:
        tail.append(1)
    words = min(how["block_norms"], blocks)
    firsts = [-(-s * blocks // words) for s in range(words)]
    for first, end in zip(firsts, [*firsts[1:], blocks], strict=bool(words)):
        some = numbers[1024 * first : 1024 * end]
        size = math.sqrt(sum(x * x for x in some) / len(some))
        tail.append(min(65_536, round(size * 65_536 / of_block[first])))
    tail += _measured(how, measures)
    return [round(x) % 2**32 for x in within], tail


def _under_noise(
    how: Fields, numbers: Sequence[float], is_long: bool
) -> tuple[list[int], list[int]]:
    norm = math.sqrt(sum(x * x for x in numbers))
    scale = min(1.0, how["norm_steps"] * (1 - 2.0**-40) / norm)
    found = [math.trunc(x * scale) for x in numbers]
    assert sum(x * x for x in found) <= how["norm_steps"] ** 2
    told = 0
    if how["indicator"]:
        told = math.floor(math.ceil(how["noise"] * how["norm_steps"]) / (2 * how["indicator"]))
    return [x % 2**32 for x in found], [1, 0, (-told if is_long else told) % 2**32]


def _measured(how: Fields, measures: Any) -> list[int]:
    names, classes = how["metrics"], how["classes"]
    if not names and not classes:
        return []
    size = 3 + 6 * len(names) + (1 + classes**2 if classes else 0)
    if measures is None:
        return [0] * size
    samples = min(measures["sample_count"], 65_535)
    values = [measures["metrics"].get(name) for name in names]
    above = any(value is not None and abs(value) > 2**23 for value in values)
    told = [1, int(above or measures["sample_count"] > samples), samples]
    for value in values:
        if value is None:
            told += [0] * 6
            continue
        steps = round(max(-(2.0**23), min(2.0**23, value)) * 2**24)
        told += [1, samples, *struct.unpack("<4H", struct.pack("<Q", 2**63 + samples * steps))]
    if classes:
        cells = [cell for row in measures["confusion"] for cell in row]
        shares = [divmod(cell * samples, sum(cells)) for cell in cells]
        found = [whole for whole, _ in shares]
        by_rest = sorted(range(len(cells)), key=lambda at: -shares[at][1])
        for at in by_rest[: samples - sum(found)]:
            found[at] += 1
        told += [1, *found]
    assert len(told) == size
    return told


def _words(name: str, count: int) -> list[int]:
    """64 random bits each; PCG64 of numpy, as the protocol says."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    return [int(word) for word in np.random.PCG64(seed).random_raw(count)]


def _drawn(numbers: Sequence[float], share: float, shared: str) -> list[float]:
    size = len(numbers)
    kept = math.ceil(share * size)
    halves = [half for word in _words(f"{shared}/part", kept) for half in divmod(word, 2**32)[::-1]]
    runs = ((i * size // kept, (i + 1) * size // kept) for i in range(kept))
    return [
        numbers[start + ((half * (stop - start)) >> 32)]
        for (start, stop), half in zip(runs, halves, strict=False)
    ]


def _rotated(numbers: Sequence[float], shared: str) -> list[float]:
    assert len(numbers) <= 256
    width = 256
    block = [*numbers, *[0.0] * (width - len(numbers))]
    drawn = b"".join(word.to_bytes(8, "little") for word in _words(f"{shared}/rotation", 8))
    bits = [byte >> at & 1 for byte in drawn for at in range(7, -1, -1)]
    for half in (bits[:width], bits[width:]):
        flipped = [x if bit else -x for x, bit in zip(block, half, strict=True)]
        block = [
            sum(-x if (row & at).bit_count() % 2 else x for at, x in enumerate(flipped))
            for row in range(width)
        ]
    return [x / width for x in block]


# Masks.


def keystream(key: bytes) -> Iterator[int]:
    """Words of ChaCha20, RFC 8439, section 2.3; from block 0, nonce zero."""
    start = (*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key))
    block = 0
    while True:
        first = [*start, block, 0, 0, 0]
        state = list(first)
        for _ in range(10):
            for column in range(4):
                _quarter(state, *(column + 4 * row for row in range(4)))
            for column in range(4):
                _quarter(state, *((column + row) % 4 + 4 * row for row in range(4)))
        yield from ((one + other) % 2**32 for one, other in zip(state, first, strict=True))
        block += 1


def _quarter(state: list[int], a: int, b: int, c: int, d: int) -> None:
    for x, y, z, left in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[x] = (state[x] + state[y]) % 2**32
        turned = state[z] ^ state[x]
        state[z] = (turned << left | turned >> (32 - left)) % 2**32


def packed(words: Sequence[int], bits: int) -> bytes:
    assert len(words) <= 131_072
    columns = -(-len(words) // 32)
    filled = [*words, *[0] * (32 * columns - len(words))]
    numbers = [
        sum((filled[row * columns + column] % 2**bits) << (bits * row) for row in range(32))
        for column in range(columns)
    ]
    cut = [(number >> (32 * at)) % 2**32 for at in range(bits) for number in numbers]
    return struct.pack(f"<{len(cut)}I", *cut)


# An answer.


def answer(
    federation: str,
    client: str,
    offer_bytes: bytes,
    change: Sequence[float],
    samples: int,
    signing_key: str,
    exchange_private: bytes,
    drawn: Sequence[bytes],
) -> Fields:
    """The update's fields."""
    offer = msgpack.unpackb(offer_bytes)
    masking, base = offer["masking"], offer["model"]["digest"]
    assert hashlib.sha256(work(offer).encode()).digest() == masking["work"]
    exchange = bindings.crypto_scalarmult_base(exchange_private)
    names = [federation, offer["run"], client, base]
    in_federation, in_run, of_client, of_base = (name.encode() for name in names)
    round_ = u64(offer["round"])
    seed_context = joined(
        b"fedmqtt 1 committed seed", in_federation, in_run, round_, of_client, of_base, exchange
    )
    hashed = [
        hashlib.sha512(joined(seed_context, struct.pack(">I", number), seed)).digest()
        for number, seed in enumerate(drawn)
    ]
    body, tail = whole_numbers(masking, change, samples, offer["seed"], offer["round"], None)
    words = [*body, *tail]
    for key in (one[:32] for one in hashed):
        words = [(word + mask) % 2**32 for word, mask in zip(words, keystream(key), strict=False)]
    payload = packed(words[: len(body)], masking["bits"])
    payload += struct.pack(f"<{len(tail)}I", *words[len(body) :])
    places = range(masking["places"])
    lacking = list(combinations(places, masking["tolerated"]))
    held = {
        place: [number for number, those in enumerate(lacking) if place not in those]
        for place in places
    }
    sealed = []
    for name, place, (number, public, _) in masking["keyholders"]:
        context = joined(
            in_federation, in_run, round_, of_client, of_base, name.encode(), u64(number)
        )
        shared = bindings.crypto_scalarmult(exchange_private, public)
        key = _hkdf(shared, b"fedmqtt 1 seeds" + joined(context, exchange, public))
        plain = b"".join(drawn[one] for one in held[place])
        sealed.append(
            bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plain, None, bytes(12), key)
        )
    there = [place for _, place, _ in masking["keyholders"]]
    commitments = b"".join(
        one[32:]
        for number, one in enumerate(hashed)
        if sum(number in held[place] for place in there) > 1
    )
    said = joined(
        b"fedmqtt 1 masked",
        in_federation,
        of_client,
        in_run,
        round_,
        of_base,
        hashlib.sha256(msgpack.packb(masking)).digest(),
        exchange,
        joined(*sealed),
        commitments,
        hashlib.sha256(payload).digest(),
    )
    _, secret = bindings.crypto_sign_seed_keypair(base64.b64decode(signing_key))
    signature = bindings.crypto_sign(hashlib.sha256(said).digest(), secret)[:64]
    return {
        **{"kind": "update", "run": offer["run"], "round": offer["round"], "base": base},
        **{"fingerprint": offer["model"]["fingerprint"], "sample_count": 1},
        **{"codec": offer["codec"], "masked": [exchange, sealed, signature, commitments]},
        "payload": payload,
    }


def _hkdf(secret: bytes, info: bytes) -> bytes:
    """32 bytes without a salt, RFC 5869."""
    key = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(key, info + b"\1", hashlib.sha256)

"""Answers hidden under short keys of a ring, so that of each mask a keyholder adds up 2,048 numbers
and not as many as the model has. An experiment: see docs/committee.md.

    client        a: public, of the round; s, e: its own, short, fresh for this answer
                  m: body, and each tail word in four bytes
                  y = 2^guard * m + a*s + e                        modulo 2^32, in blocks of 2,048
                  k = s + PRG(seed_0) + ... + PRG(seed_S-1)        modulo 2^guard
                  seeds sealed to the committee, as elsewhere        seeds, sealing, client
                  payload: k | body of y, modulo 2^(bits + guard) | tail of y, modulo 2^32
    committee     sums of PRG(seed_i) over a list                    keyholder/sums.py
    coordinator   sum of s, then: sum of y - a * sum of s = 2^guard * sum of m + sum of e

|sum of e| < 2^guard / 2 for as many answers as there may be, so that rounding gives the sum of m
exactly: nothing here is right with high probability alone. What is left with a wrong sum of keys
need not be within 32 for each answer of a multiple of 2^guard: `KeySum.open` looks. In a large
model chance alone never passes; in a small one a member that searches can lie so that it does.

a follows from the masking of the round by a hash: nobody chooses it, and above all not as zero.

Sources: Lyubashevsky, Peikert, Regev, "On ideal lattices and learning with errors over rings",
EUROCRYPT 2010 (RLWE; short keys as good as uniform ones: Applebaum, Cash, Peikert, Sahai, CRYPTO
2009). One-shot aggregation by keys that add up: Karthikeyan, Polychroniadou, "OPA: One-shot private
aggregation with single client interaction", 2024. Its committee holds Shamir shares; ours the
replicated ones of `seeds.py`, which can be held against each other.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from fedmqtt.committee_promise import KEY, SHORT_MAX, guard_bits
from fedmqtt.masking import attested, packing, ring
from fedmqtt.masking.masks import KEY_BYTES, add_masks, stream
from fedmqtt.masking.packing import Words
from fedmqtt.masking.sealing import fields
from fedmqtt.masking.values import NotASum, centred
from fedmqtt.messages import Masking

_WHAT = b"fedmqtt 1 committee"
_LIMBS = 4
"""Bytes of a word of the tail, each sent as a number of its own: their sums fit above the guard."""
_LIMB_BITS = 8
_AT_ONCE = 8
"""Blocks: what is worked on stays in the second-level cache."""
_WORD_BYTES = 4
_DRAW_BYTES = 8


def payload_bytes(masking: Masking, body: int, tail: int) -> int:
    """Of an answer of so many values and whole words."""
    key = packing.packed_bytes(KEY, masking.guard)
    return key + packing.payload_bytes(body, _LIMBS * tail, masking.bits + masking.guard)


def hide(
    masking: Masking, federation: str, words: Words, body: int, keys: Iterable[bytes]
) -> bytes:
    """The payload of an answer; `words` as `values.to_words` makes them, `keys`: of the masks
    of its own key, fresh."""
    short = _short(stream(secrets.token_bytes(KEY_BYTES)), KEY)
    errors = stream(secrets.token_bytes(KEY_BYTES))
    sent = _spread(words, body)
    sent <<= np.uint32(masking.guard)
    key = ring.factor(short)
    for at, blocks in _public(masking, federation, sent.size):
        there = sent[at : at + blocks.size]
        there += ring.products(blocks, key).reshape(-1)[: there.size]
        there += _short(errors, there.size).astype(np.uint32)
    masked = short.astype(np.uint32)
    add_masks(masked, [(one, 1) for one in keys])
    rest = packing.to_payload(sent, body, masking.bits + masking.guard)
    return packing.pack(masked, masking.guard) + rest


class KeySum:
    """The running sum of such payloads. Nothing can be read of it before the sum of keys is."""

    def __init__(self, masking: Masking, federation: str, body: int, tail: int) -> None:
        self._masking, self._federation = masking, federation
        self._body, self._tail = body, tail
        self._key: Words = np.zeros(KEY, np.uint32)
        self._sent: Words = np.zeros(body + _LIMBS * tail, np.uint32)
        self._terms = 0

    @property
    def payload_bytes(self) -> int:
        return payload_bytes(self._masking, self._body, self._tail)

    def add(self, payload: bytes | memoryview, times: int = 1) -> None:
        """Add a payload once, or take it out (`times` is -1). Raises ValueError where its length is
        another; the sum is as it was then."""
        assert times in (1, -1)
        guard = self._masking.guard
        cut = packing.packed_bytes(KEY, guard)
        key = packing.unpack(payload[:cut], KEY, guard)
        bits = self._masking.bits + guard
        sent = packing.from_payload(payload[cut:], self._body, self._sent.size - self._body, bits)
        if times == 1:
            self._key += key
            self._sent += sent
        else:
            self._key -= key
            self._sent -= sent
        self._terms += times

    def open(self, mask_sums: Iterable[Words]) -> Words:
        """Body and tail of the sum of what was hidden, for `values.from_sum`, given of each seed
        the sum of masks of keys, shape (2048,). Raises NotASum where those are not of these
        answers."""
        if guard_bits(self._terms) > self._masking.guard:
            room = self._masking.guard
            raise NotASum(f"errors of {self._terms} answers do not fit {room} guard bits")
        key = self._key.copy()
        for masks in mask_sums:
            key -= masks
        short = centred(key, self._masking.guard).astype(np.int64)
        if int(np.abs(short).max()) > SHORT_MAX * self._terms:
            raise NotASum("what is left of the keys without their masks is no sum of short ones")
        left = self._sent.copy()
        factor = ring.factor(short)
        for at, blocks in _public(self._masking, self._federation, left.size):
            there = left[at : at + blocks.size]
            there -= ring.products(blocks, factor).reshape(-1)[: there.size]
        return self._rounded(left)

    def _rounded(self, left: Words) -> Words:
        """The nearest multiples of 2^guard, in units of it, and bytes of the tail put together."""
        guard, bits = np.uint32(self._masking.guard), self._masking.bits
        errors = centred(left, self._masking.guard)
        if int(np.abs(errors).max(initial=0)) > SHORT_MAX * self._terms:
            raise NotASum("what is left of the answers is no sum: the keys are not theirs")
        left -= errors.view(np.uint32)
        left >>= guard
        found = np.zeros(self._body + self._tail, np.uint32)
        found[: self._body] = left[: self._body] & np.uint32((1 << bits) - 1)
        limbs = left[self._body :].reshape(self._tail, _LIMBS)
        for at in range(_LIMBS):
            found[self._body :] += limbs[:, at] << np.uint32(_LIMB_BITS * at)
        return found


def _spread(words: Words, body: int) -> Words:
    """The body, and the bytes of each word behind it, the lowest first."""
    tail = words[body:].astype("<u4").view(np.uint8)
    return np.concatenate([words[:body], tail.astype(np.uint32)])


def _public(masking: Masking, federation: str, size: int) -> Iterator[tuple[int, Words]]:
    """The polynomials that this round's keys are multiplied with, for so many numbers: some at a
    time, shape (blocks, 2048), and at which number they begin."""
    told = fields(_WHAT, federation.encode(), attested.masking_digest(masking))
    more = stream(hashlib.sha256(told).digest())
    for start in range(0, size, _AT_ONCE * KEY):
        blocks = min(_AT_ONCE, -(-(size - start) // KEY))
        drawn = np.frombuffer(more(blocks * KEY * _WORD_BYTES), "<u4")
        yield start, drawn.astype(np.uint32, copy=False).reshape(blocks, KEY)


def _short(more: Callable[[int], bytes], size: int) -> NDArray[np.int64]:
    """Centred binomials: the ones among 64 random bits, less 32. Deviation 4."""
    bits = np.frombuffer(more(size * _DRAW_BYTES), "<u8").astype(np.uint64)
    return _ones(bits).astype(np.int64) - SHORT_MAX


def _ones(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """How many ones each has; in place. numpy before 2.0 has no `bitwise_count`."""
    pairs, fours, bytes_ = (
        np.uint64(one) for one in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F)
    )
    bits -= (bits >> np.uint64(1)) & pairs
    high = (bits >> np.uint64(2)) & fours
    bits &= fours
    bits += high
    bits += bits >> np.uint64(4)
    bits &= bytes_
    bits *= np.uint64(0x0101010101010101)
    bits >>= np.uint64(56)
    return bits

"""A key of 32 bytes to a mask as long as an update: the keystream of ChaCha20, as 32-bit words.

Nonce: zero, as a key is used once; block counter: from 0. A word is little-endian. The key follows
from a seed (`commitments.py`).

ChaCha20 and not AES, since most small devices have no instructions for AES; a stream cipher and
nothing from numpy.random, whose output tells its state. Source: RFC 8439, section 2.4.
"""

from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

KEY_BYTES = 32

_WORD_BYTES = 4
_BLOCK = 32_768  # words; keystream and values of a block stay in the second-level cache
_ZEROS = bytes(_BLOCK * _WORD_BYTES)
_AT_ONCE = 32
"""Keys that are expanded side by side: 64 take no less time, and each has half a kilobyte."""
_NONCE = bytes(16)
"""As the library wants it: the block counter, then the nonce."""


def add_mask(words: NDArray[np.uint32], key: bytes, times: int = 1) -> None:
    """Add `times` the mask of this key, modulo 2^32, in place; shape (n,). Negative: subtract."""
    add_masks(words, [(key, times)])


def add_masks(words: NDArray[np.uint32], masks: Iterable[tuple[bytes, int]]) -> None:
    """The same of many keys, each with its `times`.

    Many of them block by block: words that are added to so often need not come from memory again.
    """
    left = iter(masks)
    while some := list(islice(left, _AT_ONCE)):
        _add_side_by_side(words, some)


def _add_side_by_side(words: NDArray[np.uint32], masks: Iterable[tuple[bytes, int]]) -> None:
    streams = [
        (Cipher(ChaCha20(key, _NONCE), mode=None).encryptor(), times) for key, times in masks
    ]
    stream = np.empty(min(words.size, _BLOCK), "<u4")
    for start in range(0, words.size, _BLOCK):
        block = words[start : start + _BLOCK]
        keys = stream[: block.size]
        zeros, room = memoryview(_ZEROS)[: keys.nbytes], keys.view(np.uint8).data
        for cipher, times in streams:
            cipher.update_into(zeros, room)
            if times != 1:
                keys *= np.uint32(times % 2**32)
            block += keys


def stream(key: bytes) -> Callable[[int], bytes]:
    """The keystream of a key that makes no mask, so many bytes more with each call."""
    cipher = Cipher(ChaCha20(key, _NONCE), mode=None).encryptor()
    return lambda count: cipher.update(bytes(count))

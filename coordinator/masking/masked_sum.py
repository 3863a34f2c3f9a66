"""The running sum of masked payloads: whole numbers modulo 2^32, the same in whatever order.

Nothing can be read of it before the sum of the masks is taken away.
"""

from collections.abc import Iterable

import numpy as np

from fedmqtt.masking import packing
from fedmqtt.masking.packing import Words


class MaskedSum:
    """Of any number of payloads, in the memory of one."""

    def __init__(self, body: int, tail: int, bits: int) -> None:
        self._body, self._tail, self._bits = body, tail, bits
        self.words: Words = np.zeros(body + tail, np.uint32)
        """Body, of which the lowest `bits` count, and tail; shape (body + tail,)."""

    @property
    def payload_bytes(self) -> int:
        """Of each."""
        return packing.payload_bytes(self._body, self._tail, self._bits)

    def add(self, payload: bytes | memoryview, times: int = 1) -> None:
        """Add a payload so many times; negative: take it out. Raises ValueError where its length is
        another; the sum is as it was then."""
        words = packing.from_payload(payload, self._body, self._tail, self._bits)
        if times != 1:
            words *= np.uint32(times % 2**32)
        self.words += words

    def open(self, mask_sums: Iterable[Words]) -> Words:
        """The sum of what was masked, given the sum of masks of each seed; for
        `fedmqtt.masking.values.from_sum`."""
        opened = self.words.copy()
        for masks in mask_sums:
            opened -= masks
        return opened

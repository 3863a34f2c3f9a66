"""Packed words come back as they were, in the bytes that were announced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.masking import packing
from fedmqtt.masking.packing import Words

COUNTS = [0, 1, 31, 32, 33, 1000, 131_071, 131_072, 131_073, 200_000]


def _words(count: int, seed: int = 0) -> Words:
    drawn = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint64)
    return drawn.astype(np.uint32)


def _lowest(words: Words, bits: int) -> Words:
    return words & np.uint32((1 << bits) - 1)


@pytest.mark.parametrize("bits", range(1, 33))
def test_words_of_any_width_come_back(bits: int) -> None:
    words = _words(5000)
    packed = packing.pack(words, bits)
    assert len(packed) == packing.packed_bytes(5000, bits)
    assert np.array_equal(packing.unpack(packed, 5000, bits), _lowest(words, bits))


@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_words_comes_back(count: int) -> None:
    words = _words(count)
    packed = packing.pack(words, 21)
    assert np.array_equal(packing.unpack(packed, count, 21), _lowest(words, 21))
    # At most 31 words of filling.
    assert count * 21 <= 8 * len(packed) <= (count + 31) * 21


def test_each_column_of_32_is_one_number_with_row_0_in_its_lowest_bits() -> None:
    bits, count = 11, 32 * 3 + 5
    words = _lowest(_words(count), bits)
    columns = -(-count // 32)
    filled = np.zeros(32 * columns, np.uint32)
    filled[:count] = words
    packed = np.frombuffer(packing.pack(words, bits), "<u4").reshape(bits, columns)
    for column in range(columns):
        number = sum(
            int(word) << (bits * row) for row, word in enumerate(filled.reshape(32, -1)[:, column])
        )
        assert [int(word) for word in packed[:, column]] == [
            number >> (32 * at) & 0xFFFFFFFF for at in range(bits)
        ]


@given(st.integers(0, 300), st.integers(0, 5), st.integers(1, 32), st.integers(1, 3))
def test_payloads_one_behind_the_other_come_back(
    body: int, tail: int, bits: int, number: int
) -> None:
    each = [_words(body + tail, seed) for seed in range(number)]
    data = b"".join(packing.to_payload(words, body, bits) for words in each)
    assert len(data) == number * packing.payload_bytes(body, tail, bits)
    found = packing.from_payloads(data, number, body, tail, bits)
    for words, back in zip(each, found, strict=True):
        assert np.array_equal(back[:body], _lowest(words[:body], bits))
        assert np.array_equal(back[body:], words[body:])


@pytest.mark.parametrize("change", [-1, 1, 4, -4])
def test_bytes_that_are_too_few_or_too_many_are_refused(change: int) -> None:
    data = packing.to_payload(_words(103), 100, 24)
    hurt = data[:change] if change < 0 else data + bytes(change)
    with pytest.raises(ValueError, match=f"{len(hurt)} bytes, not {len(data)}"):
        packing.from_payload(hurt, 100, 3, 24)
    with pytest.raises(ValueError, match="bytes, not"):
        packing.unpack(hurt, 100, 24)
    with pytest.raises(ValueError, match="bytes, not"):
        packing.from_payloads(hurt, 1, 100, 3, 24)


def test_a_payload_is_read_where_it_lies() -> None:
    data = packing.to_payload(_words(103), 100, 24)
    view = memoryview(b"x" + data)[1:]
    assert np.array_equal(
        packing.from_payload(view, 100, 3, 24), packing.from_payload(data, 100, 3, 24)
    )
